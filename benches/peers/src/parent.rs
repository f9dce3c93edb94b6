//! The parent process: which child runs when.
//!
//! Engines alternate within a group, and each run begins with another one, so that a disturbance of the
//! machine does not always hit the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::args::Args;
use crate::disk::DISK;
use crate::engine::Result;
use crate::limit::Limit;
use crate::measure::Measured;
use crate::report::{Report, Sample};
use crate::rows::{Group, Task};
use crate::{plots, targets};

/// Measures, or reads what was measured, and says what came of it.
pub fn run(args: &Args) -> Result<()> {
    let report = match args.from[..] {
        [] => measure(args)?,
        _ => read(&args.from)?,
    };
    save(args, &report)?;
    println!("{}", report.table());
    if let Some(folder) = &args.plots {
        plots::draw(&report, folder)?;
    }
    if args.check {
        let (table, met) = targets::check(&report);
        println!("{table}");
        if !met {
            return Err("not every target is met".into());
        }
    }
    Ok(())
}

fn measure(args: &Args) -> Result<Report> {
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.as_deref().unwrap_or(temporary.path());
    let mut report = Report::new(args);
    for run in 0..args.runs {
        for &group in &args.rows {
            let mut engines: Vec<&str> = args.engines.iter().map(String::as_str).collect();
            engines.rotate_left(run % args.engines.len());
            if group == Group::Commits {
                engines.push(DISK);
            }
            for engine in engines {
                eprintln!("run {} of {}: {group:?} on {engine}", run + 1, args.runs);
                for measured in rows(args, folder, engine, group)? {
                    report.samples.push(Sample { run, engine: engine.into(), measured });
                }
            }
            // Whoever interrupts the rest keeps the figures so far.
            save(args, &report)?;
        }
    }
    for engine in args.engines.iter().map(String::as_str).chain([DISK]) {
        let _ = std::fs::remove_dir_all(folder.join(engine));
        let _ = std::fs::remove_dir_all(folder.join(larger(engine)));
    }
    Ok(report)
}

/// Where the larger database of an engine is: it serves all runs.
fn larger(engine: &str) -> String {
    format!("{engine}-larger")
}

/// Runs a group of rows on an engine.
fn rows(args: &Args, folder: &Path, engine: &str, group: Group) -> Result<Vec<Measured>> {
    let task = Task {
        engine: engine.into(),
        group,
        data: args.data(args.pairs),
        folder: folder.join(engine),
        cache: args.cache << 20,
        seconds: args.seconds,
        limit: None,
    };
    if group != Group::Larger {
        return child(&task);
    }
    let (data, folder) = (args.data(args.larger_pairs), folder.join(larger(engine)));
    let prepare = Task { group: Group::PrepareLarger, data, folder, ..task };
    child(&prepare)?;
    let memory = data.bytes(data.pairs) / 10;
    let limit = Limit::new(memory);
    // The rest is for what is in no cache: page maps, indexes, the program itself.
    let rows = child(&Task { group, cache: memory * 6 / 10, limit: limit.clone(), ..prepare });
    limit.map(Limit::remove).transpose()?;
    rows
}

fn read(files: &[PathBuf]) -> Result<Report> {
    let mut all: Option<Report> = None;
    for file in files {
        let report: Report = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        match &mut all {
            Some(all) => all.add(report),
            None => all = Some(report),
        }
    }
    Ok(all.ok_or("there is no file")?)
}

fn save(args: &Args, report: &Report) -> Result<()> {
    if let Some(out) = &args.out {
        std::fs::write(out, serde_json::to_string_pretty(report)?)?;
    }
    if let Some(table) = &args.table {
        std::fs::write(table, report.table())?;
    }
    Ok(())
}

/// Runs a task in a process of its own. One that the kernel ends under a limit has the rows that it
/// had measured before.
fn child(task: &Task) -> Result<Vec<Measured>> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .arg("--child")
        .arg(serde_json::to_string(task)?)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let (engine, group) = (&task.engine, task.group);
        let failure = format!("{group:?} on {engine} ended with {}", output.status);
        match (&task.limit, output.status.code()) {
            (Some(_), None) => eprintln!("{failure}: it needed more than the memory"),
            _ => return Err(failure.into()),
        }
    }
    // An engine may print something, too.
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The name of the file system's device, the processor and the kernel, as far as they can be told.
pub fn machine(folder: Option<&Path>) -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let memory = memory.lines().next().unwrap_or_default().replace("MemTotal:", "");
    let kernel = read("/proc/sys/kernel/osrelease");
    let place = folder.map_or("a temporary folder".into(), |folder| folder.display().to_string());
    format!("{cores} x {model}, {} of memory, Linux {}, in {place}", memory.trim(), kernel.trim())
}

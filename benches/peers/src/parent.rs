//! The parent process: which child runs when.
//!
//! Engines alternate within a group, and each run begins with another one, so that a disturbance of the
//! machine does not always hit the same.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::args::Args;
use crate::engine::Result;
use crate::measure::Measured;
use crate::report::{Report, Sample};
use crate::rows::Task;

pub fn run(args: &Args) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let folder = args.folder.as_deref().unwrap_or(temporary.path());
    let mut report = Report::new(args);
    for run in 0..args.runs {
        for &group in &args.rows {
            for at in 0..args.engines.len() {
                let engine = &args.engines[(run + at) % args.engines.len()];
                let task = Task {
                    engine: engine.clone(),
                    group,
                    data: args.data(),
                    folder: folder.join(engine),
                    cache: args.cache << 20,
                    seconds: args.seconds,
                };
                eprintln!("run {} of {}: {group:?} on {engine}", run + 1, args.runs);
                for measured in child(&task)? {
                    report.samples.push(Sample { run, engine: engine.clone(), measured });
                }
            }
        }
        // After each run: whoever interrupts the next keeps this one's figures.
        save(args, &report)?;
    }
    for engine in &args.engines {
        let _ = std::fs::remove_dir_all(folder.join(engine));
    }
    println!("{}", report.table());
    Ok(())
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

/// Runs a task in a process of its own.
fn child(task: &Task) -> Result<Vec<Measured>> {
    let program = std::env::current_exe()?;
    let output = Command::new(program)
        .arg("--child")
        .arg(serde_json::to_string(task)?)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        let (engine, group) = (&task.engine, task.group);
        return Err(format!("{group:?} on {engine} ended with {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    // An engine may have printed something before.
    let line = text.lines().next_back().ok_or("a child said nothing")?;
    Ok(serde_json::from_str(line)?)
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

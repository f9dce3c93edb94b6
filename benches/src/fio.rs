//! fio, the disk's side of a comparison: runs the installed program, and reads its JSON.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::measure::Round;
use crate::raw::Failure;

/// One of its jobs, always with `O_DIRECT`.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// The file, which exists.
    pub file: &'a Path,
    /// What it calls `rw`: `randread`, `read`, `write`.
    pub pattern: &'a str,
    /// What it calls `ioengine`.
    pub engine: &'a str,
    /// Bytes of a read or write.
    pub block: u64,
    /// Reads or writes in flight.
    pub depth: u64,
    /// For how long.
    pub seconds: f64,
    /// Other arguments.
    pub more: &'a [&'a str],
}

impl Job<'_> {
    /// Random reads of 4 KiB through io_uring.
    pub fn random_reads(file: &Path, depth: u64, seconds: f64) -> Job<'_> {
        let more = &["--readonly", "--norandommap", "--randrepeat=0"];
        Job { file, pattern: "randread", engine: "io_uring", block: 4096, depth, seconds, more }
    }

    /// Reads from the start to the end through io_uring, and again.
    pub fn sequential_reads(file: &Path, block: u64, depth: u64, seconds: f64) -> Job<'_> {
        let more = &["--readonly"];
        Job { file, pattern: "read", engine: "io_uring", block, depth, seconds, more }
    }

    /// Writes of 4 KiB, one after the other, each durable when it returns.
    pub fn durable_writes(file: &Path, seconds: f64) -> Job<'_> {
        let more = &["--sync=dsync", "--overwrite=1"];
        Job { file, pattern: "write", engine: "pvsync2", block: 4096, depth: 1, seconds, more }
    }

    /// Runs it.
    ///
    /// # Errors
    /// fio is not installed, it failed, or it said something else than expected.
    pub fn run(&self) -> Result<Round, Failure> {
        let output = Command::new("fio")
            .args(["--name=disk", "--direct=1", "--time_based", "--output-format=json"])
            .args(["--lat_percentiles=1", "--clat_percentiles=0"])
            .arg(format!("--filename={}", self.file.display()))
            .arg(format!("--rw={}", self.pattern))
            .arg(format!("--ioengine={}", self.engine))
            .arg(format!("--bs={}", self.block))
            .arg(format!("--iodepth={}", self.depth))
            .arg(format!("--runtime={}ms", (self.seconds * 1e3) as u64))
            .args(self.more)
            .output()
            .map_err(|error| format!("fio cannot be run ({error}): is it installed?"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("fio has failed, {}: {errors}{text}", output.status).into());
        }
        // It may say something before its JSON.
        let start = text.find('{').ok_or("fio printed no JSON")?;
        let json: Value = serde_json::from_str(&text[start..])?;
        let direction = if self.pattern.ends_with("read") { "read" } else { "write" };
        round(&json["jobs"][0], direction).ok_or_else(|| format!("fio printed {json}").into())
    }
}

fn round(job: &Value, direction: &str) -> Option<Round> {
    let half = &job[direction];
    let percentile = |name: &str| half["lat_ns"]["percentile"][name].as_f64();
    let cpu_percent = job["usr_cpu"].as_f64()? + job["sys_cpu"].as_f64()?;
    Some(Round {
        count: half["total_ios"].as_u64()?,
        seconds: half["runtime"].as_f64()? / 1e3,
        cpu_seconds: cpu_percent / 100.0 * job["job_runtime"].as_f64()? / 1e3,
        p50_us: percentile("50.000000")? / 1e3,
        p99_us: percentile("99.000000")? / 1e3,
    })
}

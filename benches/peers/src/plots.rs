//! The plots: bars of each row, relative to the best.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::engine::Result;
use crate::engines::{NAMES, OURS};
use crate::measure::Unit;
use crate::report::{Report, Row};

/// Rows of one picture: a file, a title, and how their names begin.
const PICTURES: &[(&str, &str, &[&str])] = &[
    ("commits", "Durable commits a second", &["durable commits"]),
    (
        "writes",
        "Loads, batches, buffered commits, removals: pairs a second",
        &["bulk load", "sorted load", "durable batches", "buffered commits", "removals"],
    ),
    ("reads", "Reads, cached: pairs a second", &["random reads", "range reads", "full scan"]),
    ("ycsb", "YCSB in memory: operations a second", &["YCSB"]),
    ("larger", "Data ten times the memory: operations a second", &["data 10 x memory"]),
];

const BAR: i32 = 13;
const GAP: i32 = 12;
const LEFT: i32 = 290;
const WIDTH: i32 = 900;
const TOP: i32 = 64;

/// Draws a picture for each group of rows that was measured.
pub fn draw(report: &Report, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let rows = report.rows();
    for (file, title, beginnings) in PICTURES {
        let wanted = |row: &&Row| {
            row.unit == Unit::PerSecond && beginnings.iter().any(|b| row.name.starts_with(b))
        };
        let rows: Vec<&Row> = rows.iter().filter(wanted).collect();
        if !rows.is_empty() {
            picture(report, title, &rows, &folder.join(format!("{file}.svg")))?;
        }
    }
    Ok(())
}

fn color(engine: &str) -> RGBColor {
    let others = [
        RGBColor(148, 163, 184),
        RGBColor(110, 140, 200),
        RGBColor(205, 165, 90),
        RGBColor(160, 125, 185),
    ];
    let place = NAMES.iter().filter(|name| **name != OURS).position(|name| *name == engine);
    place.map_or(RGBColor(20, 125, 95), |at| others[at % others.len()])
}

/// Bars of one row are relative to the row's best, as rows differ by orders of magnitude.
fn picture(report: &Report, title: &str, rows: &[&Row], file: &Path) -> Result<()> {
    let engines = &report.engines;
    let row_height = engines.len() as i32 * BAR + GAP;
    let height = TOP + rows.len() as i32 * row_height + 10;
    let area = SVGBackend::new(file, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw_text(title, &text(18), (12, 10))?;
    for (at, engine) in (0..).zip(engines) {
        let x = 14 + at * 120;
        bar(&area, (x, 38), (12, 12), color(engine))?;
        area.draw_text(engine, &text(13), (x + 17, 38))?;
    }
    for (at, row) in (0..).zip(rows) {
        let top = TOP + at * row_height;
        area.draw_text(&row.name, &text(13), (12, top + row_height / 2 - GAP))?;
        let best = row.medians.iter().flatten().copied().fold(0.0, f64::max);
        for (n, (engine, median)) in (0..).zip(engines.iter().zip(&row.medians)) {
            let Some(value) = *median else { continue };
            let width = (value / best * f64::from(WIDTH - LEFT - 90)).round() as i32;
            let y = top + n * BAR;
            bar(&area, (LEFT, y), (width.max(1), BAR - 2), color(engine))?;
            area.draw_text(&short(value), &text(11), (LEFT + width + 5, y))?;
        }
    }
    area.present()?;
    Ok(())
}

fn bar(
    area: &DrawingArea<SVGBackend, Shift>,
    (x, y): (i32, i32),
    (width, height): (i32, i32),
    color: RGBColor,
) -> Result<()> {
    Ok(area.draw(&Rectangle::new([(x, y), (x + width, y + height)], color.filled()))?)
}

fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M", v / 1e6),
        v if v >= 1e4 => format!("{:.0} k", v / 1e3),
        v if v >= 1e3 => format!("{:.1} k", v / 1e3),
        v => format!("{v:.0}"),
    }
}

//! `map`: the page file as a picture. Each cell is a slot, or as many neighbours as it takes to keep
//! the picture of a large file small; its colour says what most of them are, its strength how full.

use std::collections::HashMap;
use std::fs;

use treering::{Database, Layout, PageId, SlotUse};

use crate::args::{EngineArgs, MapArgs};
use crate::error::{Failure, Verdict};
use crate::open::{Missing, with_database};
use crate::output::{Output, count_bar, grouped};
use crate::svg::{Anchor, Fill, Picture};

/// Cells in a row, and rows at most.
const COLUMNS: usize = 128;
const ROWS_MAX: usize = 128;
/// Of a cell, in pixels.
const CELL: f64 = 7.0;
const MARGIN: f64 = 20.0;
/// From one line of words to the next.
const LINE: f64 = 18.0;

/// Colours that people see apart who see fewer of them, too (Okabe and Ito).
const TREES: [&str; 3] = ["#0072b2", "#56b4e9", "#009e73"];
const INNER: &str = "#d55e00";
const VALUE: &str = "#e69f00";
const MAP: &str = "#cc79a7";
const PENDING: &str = "#f0e442";
const OTHER: &str = "#808080";
const FREE: &str = "#eeeeee";

pub(crate) async fn run(engine: &EngineArgs, args: MapArgs) -> Result<Verdict, Failure> {
    let path = &args.database.database;
    let file = with_database(engine, path, Missing::Refuse, async |database| {
        PageFile::look(database).await
    })
    .await?;
    let picture = file.draw(&path.display().to_string());
    match &args.output {
        None => {
            let mut out = Output::new();
            out.bytes(picture.as_bytes())?;
            out.finish()?;
        }
        Some(to) => fs::write(to, picture).map_err(|error| {
            Failure::wrong(format!("writing the picture to {}: {error}", to.display()))
        })?,
    }
    Ok(Verdict::Fine)
}

/// What a slot is, as it is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// A leaf of the tree of this number.
    Leaf(usize),
    Inner,
    /// A page that no tree's walk has come to: the catalog's, or one that was made meanwhile.
    Other,
    Value,
    Map,
    Pending,
    Taken,
    Free,
}

/// A page that a walk has come to.
struct Seen {
    kind: Kind,
    /// How full, from 0 to 1.
    full: f64,
}

struct PageFile {
    trees: Vec<String>,
    layout: Layout,
    seen: HashMap<PageId, Seen>,
}

impl PageFile {
    async fn look(database: &Database) -> Result<Self, Failure> {
        let layout = database.layout().await?;
        let (trees, mut seen) = (database.tree_names(), HashMap::new());
        let pages = layout.slots.iter().filter(|slot| matches!(slot, SlotUse::Page(_))).count();
        let bar = count_bar("looking at pages", pages as u64);
        for (number, name) in trees.iter().enumerate() {
            let Some(mut walk) = database.structure(name)? else { continue };
            while let Some(page) = walk.next().await? {
                let kind = if page.level == 0 { Kind::Leaf(number) } else { Kind::Inner };
                let full = page.used as f64 / page.size.max(1) as f64;
                seen.insert(page.id, Seen { kind, full });
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(Self { trees, layout, seen })
    }

    /// What the slot is, and how full.
    fn kind(&self, slot: &SlotUse) -> (Kind, f64) {
        match slot {
            SlotUse::Free => (Kind::Free, 0.0),
            SlotUse::Page(page) => match self.seen.get(page) {
                Some(seen) => (seen.kind, seen.full),
                None => (Kind::Other, 1.0),
            },
            SlotUse::Value(_) => (Kind::Value, 1.0),
            SlotUse::Map => (Kind::Map, 1.0),
            SlotUse::Pending => (Kind::Pending, 1.0),
            _ => (Kind::Taken, 1.0),
        }
    }

    /// Slots a cell.
    fn a_cell(&self) -> usize {
        self.layout.slots.len().div_ceil(COLUMNS * ROWS_MAX).max(1)
    }

    fn draw(&self, name: &str) -> String {
        let counts = self.counts();
        let a_cell = self.a_cell();
        let rows = self.layout.slots.len().div_ceil(a_cell).div_ceil(COLUMNS).max(1);
        let legend = self.legend(&counts);
        let top = MARGIN + 3.0 * LINE;
        let bottom = top + rows as f64 * CELL;
        let width = 2.0 * MARGIN + COLUMNS as f64 * CELL;
        let mut picture = Picture::new(width, bottom + (legend.len() as f64 + 1.0) * LINE + MARGIN);
        self.head(&mut picture, name, &counts);
        let cells: Vec<Cell> = self.layout.slots.chunks(a_cell).map(|c| self.cell(c)).collect();
        for (row, cells) in cells.chunks(COLUMNS).enumerate() {
            self.row(&mut picture, row, top + row as f64 * CELL, cells);
        }
        for (line, (kind, words)) in legend.iter().enumerate() {
            let y = bottom + (line as f64 + 1.0) * LINE;
            picture.rect((MARGIN, y - 1.0), (12.0, 12.0), &fill(*kind, 1.0, "legend"), "");
            picture.text((MARGIN + 20.0, y + 10.0), Anchor::Start, words);
        }
        picture.finish(&format!("The page file of {name}"))
    }

    fn head(&self, picture: &mut Picture, name: &str, counts: &HashMap<Kind, u64>) {
        let slots = self.layout.slots.len() as u64;
        let free = counts.get(&Kind::Free).copied().unwrap_or(0);
        let bytes = self.layout.data_start + slots * self.layout.page_size as u64;
        picture.text(
            (MARGIN, MARGIN + 12.0),
            Anchor::Start,
            format_args!(
                "{name}: {} bytes, {} slots of {} bytes, {} % in use",
                grouped(bytes),
                grouped(slots),
                grouped(self.layout.page_size as u64),
                (slots - free) * 100 / slots.max(1)
            ),
        );
        let cell = match self.a_cell() {
            1 => "a cell is a page, ".to_owned(),
            many => format!("a cell is {} pages, ", grouped(many as u64)),
        };
        let words = "from the beginning of the file on; the stronger, the fuller";
        picture.text((MARGIN, MARGIN + 12.0 + LINE), Anchor::Start, cell + words);
    }

    fn counts(&self) -> HashMap<Kind, u64> {
        let mut counts = HashMap::new();
        for slot in &self.layout.slots {
            *counts.entry(self.kind(slot).0).or_default() += 1;
        }
        counts
    }

    fn legend(&self, counts: &HashMap<Kind, u64>) -> Vec<(Kind, String)> {
        let mut kinds: Vec<_> = counts.iter().map(|(kind, count)| (*kind, *count)).collect();
        kinds.sort_unstable();
        let line = |(kind, count)| (kind, format!("{}: {}", self.words(kind), grouped(count)));
        kinds.into_iter().map(line).collect()
    }

    fn words(&self, kind: Kind) -> String {
        match kind {
            Kind::Leaf(tree) => match self.trees.get(tree) {
                Some(name) => format!("leaves of {name:?}"),
                None => "leaves".to_owned(),
            },
            Kind::Inner => "inner pages".to_owned(),
            Kind::Other => "the catalog, and what was made meanwhile".to_owned(),
            Kind::Value => "large values".to_owned(),
            Kind::Map => "the page map".to_owned(),
            Kind::Pending => "free after the next checkpoints".to_owned(),
            Kind::Taken => "being written, or held by a backup".to_owned(),
            Kind::Free => "free".to_owned(),
        }
    }

    fn cell(&self, slots: &[SlotUse]) -> Cell {
        let mut kinds: HashMap<Kind, (usize, f64)> = HashMap::new();
        for slot in slots {
            let (kind, full) = self.kind(slot);
            let entry = kinds.entry(kind).or_default();
            *entry = (entry.0 + 1, entry.1 + full);
        }
        // Of two that are equally many, always the same one.
        let most = kinds.into_iter().max_by_key(|(kind, (count, _))| (*count, *kind));
        let (kind, (count, full)) = most.unwrap_or((Kind::Free, (1, 0.0)));
        Cell { kind, tenths: (full / count as f64 * 10.0).round() as u8 }
    }

    /// Neighbours that look the same are one rectangle.
    fn row(&self, picture: &mut Picture, row: usize, y: f64, cells: &[Cell]) {
        let mut column = 0;
        for run in cells.chunk_by(|left, right| left == right) {
            let cell = run[0];
            let slot = (row * COLUMNS + column) * self.a_cell();
            let offset = self.layout.data_start + (slot * self.layout.page_size) as u64;
            let mut title = format!("offset {}: {}", grouped(offset), self.words(cell.kind));
            if matches!(cell.kind, Kind::Leaf(_) | Kind::Inner) {
                title += &format!(", about {} % full", u32::from(cell.tenths) * 10);
            }
            let at = (MARGIN + column as f64 * CELL, y);
            let size = (run.len() as f64 * CELL - 0.5, CELL - 0.5);
            let strength = 0.25 + 0.75 * f64::from(cell.tenths) / 10.0;
            picture.rect(at, size, &fill(cell.kind, strength, class(cell.kind)), &title);
            column += run.len();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Cell {
    kind: Kind,
    /// How full, in tenths.
    tenths: u8,
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Leaf(_) => "leaf",
        Kind::Inner => "inner",
        Kind::Other => "other",
        Kind::Value => "value",
        Kind::Map => "map",
        Kind::Pending => "pending",
        Kind::Taken => "taken",
        Kind::Free => "free",
    }
}

fn fill(kind: Kind, strength: f64, class: &'static str) -> Fill {
    let (colour, opacity) = match kind {
        Kind::Leaf(tree) => (TREES[tree % TREES.len()], strength),
        Kind::Inner => (INNER, strength),
        Kind::Value => (VALUE, 1.0),
        Kind::Map => (MAP, 1.0),
        Kind::Pending => (PENDING, 1.0),
        Kind::Other | Kind::Taken => (OTHER, 1.0),
        Kind::Free => (FREE, 1.0),
    };
    Fill { colour, opacity, class }
}

//! `dump --dot`: the pages of the trees as a graph for Graphviz.

use std::collections::BTreeMap;
use std::fmt::Write;

use treering::{Database, PageShape, TreeOptions};

use crate::error::Failure;
use crate::output::{Output, quoted};

/// Of a fence, so many characters are shown.
const FENCE_MAX: usize = 16;

/// Writes one graph with a cluster for each tree, of `levels` levels from the root down.
pub(crate) async fn run(
    database: &Database,
    trees: &[(String, TreeOptions)],
    levels: u8,
) -> Result<(), Failure> {
    let mut out = Output::new();
    out.line("digraph treering {")?;
    out.line("  node [shape=box, fontname=\"sans-serif\", fontsize=10];")?;
    for (number, (name, _)) in trees.iter().enumerate() {
        let Some(mut pages) = database.structure(name)? else { continue };
        out.line(format_args!("  subgraph cluster_{number} {{"))?;
        out.line(format_args!("    label={};", quoted(name)))?;
        let mut graph = Graph::default();
        while let Some(page) = pages.next().await? {
            // The walk comes to the root first.
            let lowest =
                *graph.lowest.get_or_insert(page.level.saturating_sub(levels.saturating_sub(1)));
            if page.level < lowest {
                break;
            }
            out.line(graph.page(&page))?;
        }
        out.bytes(graph.ranks().as_bytes())?;
        out.line("  }")?;
    }
    out.line("}")?;
    out.finish()
}

#[derive(Default)]
struct Graph {
    /// The lowest level that is shown.
    lowest: Option<u8>,
    /// The pages of each level, in their order.
    levels: BTreeMap<u8, Vec<u64>>,
}

impl Graph {
    /// A page with what it points to.
    fn page(&mut self, page: &PageShape) -> String {
        let id = page.id.0;
        self.levels.entry(page.level).or_default().push(id);
        let high = page.high.as_deref().map_or_else(|| "..".to_owned(), fence);
        let percent = page.used * 100 / page.size.max(1);
        let label =
            format!("page {id}\n[{}, {high})\n{} slots, {percent} %", fence(&page.low), page.slots);
        let mut text = format!("    p{id} [label={}];", quoted(&label));
        if self.lowest.is_some_and(|lowest| page.level > lowest) {
            for child in &page.children {
                let _ = write!(text, " p{id} -> p{};", child.0);
            }
        }
        if let Some(right) = page.right {
            let style = if page.unposted { "dashed, color=red" } else { "dotted" };
            let _ = write!(text, " p{id} -> p{} [constraint=false, style={style}];", right.0);
        }
        text
    }

    /// Pages of one level stand beside each other.
    fn ranks(&self) -> String {
        let mut text = String::new();
        for pages in self.levels.values() {
            let names: Vec<String> = pages.iter().map(|id| format!("p{id};")).collect();
            let _ = writeln!(text, "    {{ rank=same; {} }}", names.join(" "));
        }
        text
    }
}

/// A key between quotation marks, its middle left out if it is long.
fn fence(key: &[u8]) -> String {
    let text = key.escape_ascii().to_string();
    match text.len() > FENCE_MAX {
        true => format!("\"{}..\"", &text[..FENCE_MAX]),
        false => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_are_quoted_and_cut() {
        assert_eq!(fence(b"k\x00"), r#""k\x00""#);
        assert_eq!(fence(&[b'a'; 17]), format!("\"{}..\"", "a".repeat(16)));
    }
}

//! Every public future is `Send`, every stream, and every handle is shared: checked by the compiler.

use std::collections::BTreeSet;
use std::future::IntoFuture;

use futures::{FutureExt, Stream, StreamExt};
use treering::{
    Batch, Chunk, Commit, CommitSequences, Cursor, Database, Error, Loader, MultiCursor,
    MultiRange, MultiTree, Options, Range, Structure, Tree, TypedRange, TypedTree, TypedWrite,
    ValueReader, ValueWriter, Values, Write,
};

use super::bare_block_on;
use crate::common::Home;

fn handle<T: Clone + Send + Sync + 'static>() {}

fn movable<T: Send + 'static>() {}

fn stream<T: Stream + Send + Unpin + 'static>() {}

#[test]
fn handles_are_shared_and_streams_are_sent() {
    handle::<Database>();
    handle::<Tree>();
    handle::<MultiTree>();
    handle::<TypedTree<u64, String>>();
    handle::<Error>();
    handle::<Options>();
    stream::<Range>();
    stream::<MultiRange>();
    stream::<Values>();
    stream::<TypedRange<u64, String>>();
    stream::<ValueReader>();
    movable::<Cursor>();
    movable::<MultiCursor>();
    movable::<Chunk>();
    movable::<ValueWriter>();
    movable::<Loader>();
    movable::<Structure>();
    movable::<Batch>();
    movable::<Commit>();
    movable::<CommitSequences>();
    movable::<Write<()>>();
    movable::<TypedWrite<()>>();
}

/// Makes each future, asks the compiler whether it is `Send`, and lists its name.
macro_rules! shown {
    ($($about:literal => $future:expr),* $(,)?) => {{
        let mut shown = BTreeSet::new();
        $(
            sent($future);
            shown.insert($about);
        )*
        shown
    }};
}

fn sent<T>(future: T)
where
    T: IntoFuture + Send,
    T::IntoFuture: Send,
{
    drop(future);
}

fn next<S: Stream + Unpin>(stream: S) -> impl Future<Output = ()> + use<S> {
    stream.into_future().map(drop)
}

/// The functions whose futures are made here; none of them is polled.
pub(super) fn shown() -> BTreeSet<&'static str> {
    let home = Home::new();
    let db = bare_block_on(Options::new().open(&home.path)).unwrap();
    let tree = bare_block_on(db.tree("t")).unwrap();
    let multi = bare_block_on(db.multi_tree("m")).unwrap();
    let typed: TypedTree<u64, String> = bare_block_on(db.typed("y")).unwrap();
    let (mut cursor, mut duplicates) = (tree.cursor(), multi.cursor());
    let mut load = tree.load();
    let mut writer = tree.write_stream("k").unwrap();
    let mut pages = db.structure("t").unwrap().unwrap();
    shown! {
        "Options::open" => Options::new().open("nowhere"),
        "Database::open" => Database::open("nowhere"),
        "Database::tree" => db.tree("t"),
        "Database::tree_with" => db.tree_with("t", treering::TreeOptions::new()),
        "Database::multi_tree" => db.multi_tree("m"),
        "Database::multi_tree_with" => db.multi_tree_with("m", treering::TreeOptions::new()),
        "Database::typed" => db.typed::<u64, String>("y"),
        "Database::drop_tree" => db.drop_tree("t"),
        "Database::rename_tree" => db.rename_tree("t", "u"),
        "Database::sync" => db.sync(),
        "Database::checkpoint" => db.checkpoint(),
        "Database::tidy" => db.tidy(),
        "Database::compact" => db.compact(),
        "Database::backup" => db.backup("nowhere"),
        "Database::verify" => db.verify(),
        "Database::close" => db.close(),
        "Structure::next" => pages.next(),
        "Database::layout" => db.layout(),
        "Database::outline" => db.outline("t", 2),
        "Tree::get" => tree.get("k"),
        "Tree::get_with" => tree.get_with("k", <[u8]>::len),
        "Tree::get_many" => tree.get_many(["k"]),
        "Tree::contains" => tree.contains("k"),
        "Tree::value_len" => tree.value_len("k"),
        "Tree::get_range" => tree.get_range("k", 1..2),
        "Tree::read_stream" => tree.read_stream("k"),
        "Tree::put" => tree.put("k", "v"),
        "Tree::replace" => tree.replace("k", "v"),
        "Tree::insert" => tree.insert("k", "v"),
        "Tree::update" => tree.update("k", "v"),
        "Tree::delete" => tree.delete("k"),
        "Tree::take" => tree.take("k"),
        "Tree::compare_and_swap" => tree.compare_and_swap("k", None, None),
        "Tree::get_or_insert" => tree.get_or_insert("k", "v"),
        "Tree::modify" => tree.modify("k", |old| old.map(<[u8]>::to_vec)),
        "Tree::delete_range" => tree.delete_range("a".."b"),
        "Tree::range" => next(tree.range("a".."b")),
        "Tree::prefix" => next(tree.prefix("a").rev()),
        "Range::next_chunk" => tree.range("a".."b").next_chunk(),
        "Cursor::seek" => cursor.seek("k"),
        "Cursor::seek_for_prev" => cursor.seek_for_prev("k"),
        "Cursor::first" => cursor.first(),
        "Cursor::last" => cursor.last(),
        "Cursor::next" => cursor.next(),
        "Cursor::prev" => cursor.prev(),
        "ValueWriter::write" => writer.write(b"v"),
        "ValueWriter::commit" => writer.commit(),
        "Loader::put" => load.put("k", "v"),
        "Loader::finish" => load.finish(),
        "Batch::commit" => db.batch().commit(),
        "Commit::sequences" => db.batch().commit().sequences(),
        "MultiTree::insert_dup" => multi.insert_dup("k", "v"),
        "MultiTree::get" => multi.get("k"),
        "MultiTree::contains" => multi.contains("k"),
        "MultiTree::get_all" => next(multi.get_all("k")),
        "MultiTree::delete_dup" => multi.delete_dup("k", 1),
        "MultiTree::take_dup" => multi.take_dup("k", 1),
        "MultiTree::delete_value" => multi.delete_value("k", "v"),
        "MultiTree::delete_all" => multi.delete_all("k"),
        "MultiTree::range" => next(multi.range("a".."b")),
        "MultiTree::prefix" => next(multi.prefix("a")),
        "MultiCursor::seek" => duplicates.seek("k"),
        "MultiCursor::seek_for_prev" => duplicates.seek_for_prev("k"),
        "MultiCursor::first" => duplicates.first(),
        "MultiCursor::last" => duplicates.last(),
        "MultiCursor::next" => duplicates.next(),
        "MultiCursor::prev" => duplicates.prev(),
        "TypedTree::get" => typed.get(1),
        "TypedTree::get_with" => typed.get_with(1, |text: &str| text.len()),
        "TypedTree::get_many" => typed.get_many([1]),
        "TypedTree::contains" => typed.contains(1),
        "TypedTree::put" => typed.put(1, "v"),
        "TypedTree::replace" => typed.replace(1, "v"),
        "TypedTree::insert" => typed.insert(1, "v"),
        "TypedTree::update" => typed.update(1, "v"),
        "TypedTree::delete" => typed.delete(1),
        "TypedTree::take" => typed.take(1),
        "TypedTree::compare_and_swap" => typed.compare_and_swap(1, None, None),
        "TypedTree::get_or_insert" => typed.get_or_insert(1, "v"),
        "TypedTree::range" => next(typed.range(1..2)),
        "TypedTree::delete_range" => typed.delete_range(1..2),
    }
}

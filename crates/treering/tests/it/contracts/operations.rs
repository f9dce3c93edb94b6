//! Operations that read, and those that look after a database. Each checks what it gets.

use futures::{AsyncReadExt, FutureExt, StreamExt, TryStreamExt};
use treering::{Chunk, Durability, ErrorKind, KeyBytes, TreeOptions, ValueBytes};

use super::{KEYS, Kind, LARGE, World, base};

/// A table of kinds: each body is an async block that may use `?` on errors of the database.
macro_rules! kinds {
    ($($about:literal => |$world:ident, $number:ident| $body:block)*) => {
        &[$(Kind {
            about: $about,
            make: |$world: World, $number: usize| {
                let _ = $number;
                async move {
                    $body
                    Ok(())
                }
                .boxed()
            },
        }),*]
    };
}
pub(super) use kinds;

const BASE: &[u8] = &[b'b'; 150];

fn is_base(value: Option<ValueBytes>) {
    assert_eq!(value.as_deref(), Some(BASE));
}

fn count(chunk: &Option<Chunk>) -> usize {
    chunk.as_ref().map_or(0, Chunk::len)
}

fn number_of(pair: Option<(KeyBytes, ValueBytes)>) -> Option<String> {
    pair.map(|(key, _)| String::from_utf8(key.into_vec()).unwrap())
}

/// What reads.
pub(super) const READING: &[Kind] = kinds! {
    "Tree::get" => |w, n| { is_base(w.tree.get(base(n)).await?) }
    "Tree::get_with" => |w, n| {
        assert_eq!(w.tree.get_with(base(n), <[u8]>::len).await?, Some(150));
    }
    "Tree::get_many" => |w, n| {
        let found = w.tree.get_many((0..20).map(|more| base(n + more * 31))).await?;
        found.into_iter().for_each(is_base);
    }
    "Tree::contains" => |w, n| { assert!(w.tree.contains(base(n)).await?) }
    "Tree::value_len" => |w, n| {
        assert_eq!(w.tree.value_len("large").await?, Some(LARGE as u64));
    }
    "Tree::get_range" => |w, n| {
        let part = w.tree.get_range("large", 3000..11_000).await?;
        assert_eq!(part.as_deref(), Some(&[b'l'; 8000][..]));
    }
    "Tree::read_stream" => |w, n| {
        let reader = w.tree.read_stream("large").await?.unwrap();
        let parts: Vec<_> = reader.try_collect().await?;
        assert_eq!(parts.iter().map(|part| part.len()).sum::<usize>(), LARGE);
        let mut reader = w.tree.read_stream("large").await?.unwrap();
        let mut some = [0; 5000];
        reader.read_exact(&mut some).await.unwrap();
        assert_eq!(some, [b'l'; 5000]);
    }
    "Tree::range" => |w, n| {
        let pairs: Vec<_> = w.tree.range("base ".."base~").try_collect().await?;
        assert_eq!(pairs.len(), KEYS);
        let mut back = w.tree.range(.."base 00300").rev();
        assert_eq!(number_of(back.try_next().await?), Some("base 00299".to_owned()));
    }
    "Range::next_chunk" => |w, n| {
        let (mut range, mut found) = (w.tree.range("base ".."base~"), 0);
        while found < KEYS {
            found += count(&range.next_chunk().await?);
        }
        assert!(range.next_chunk().await?.is_none());
    }
    "Tree::prefix" => |w, n| {
        let pairs: Vec<_> = w.tree.prefix("base 0010").try_collect().await?;
        assert_eq!(pairs.len(), 10);
    }
    "Cursor::seek Cursor::next Cursor::prev" => |w, n| {
        let mut cursor = w.tree.cursor();
        let at = n % (KEYS - 2) + 1;
        assert!(cursor.seek(format!("base {at:05}")).await?);
        assert!(cursor.prev().await?);
        assert_eq!(cursor.key(), Some(format!("base {:05}", at - 1).as_bytes()));
        assert!(cursor.next().await?);
        assert_eq!(cursor.value(), Some(BASE));
    }
    "Cursor::seek_for_prev Cursor::first Cursor::last" => |w, n| {
        let mut cursor = w.tree.cursor();
        assert!(cursor.seek_for_prev("base 00200~").await?);
        assert_eq!(cursor.key(), Some(&b"base 00200"[..]));
        assert!(cursor.first().await?);
        assert_eq!(cursor.key(), Some(&b"base 00000"[..]));
        assert!(cursor.last().await?);
    }
    "MultiTree::get MultiTree::contains" => |w, n| {
        assert_eq!(w.multi.get("stays").await?.as_deref(), Some(&b"one"[..]));
        assert!(w.multi.contains("stays").await?);
    }
    "MultiTree::get_all MultiTree::range MultiTree::prefix" => |w, n| {
        let all: Vec<_> = w.multi.get_all("stays").try_collect().await?;
        assert_eq!(all.len(), 3);
        assert_eq!(w.multi.range("stays"..="stays").rev().count().await, 3);
        assert_eq!(w.multi.prefix("stay").count().await, 3);
    }
    "MultiCursor::seek MultiCursor::next MultiCursor::prev" => |w, n| {
        let mut cursor = w.multi.cursor();
        assert!(cursor.seek("stays").await?);
        assert!(cursor.next().await? && cursor.prev().await?);
        assert_eq!(cursor.entry().unwrap().2, b"one");
    }
    "MultiCursor::seek_for_prev MultiCursor::first MultiCursor::last" => |w, n| {
        let mut cursor = w.multi.cursor();
        assert!(cursor.first().await? && cursor.last().await?);
        assert!(cursor.seek_for_prev("stays").await?);
        assert_eq!(cursor.entry().unwrap().2, b"three");
    }
    "TypedTree::get TypedTree::contains TypedTree::get_many TypedTree::range" => |w, n| {
        let absent = u64::MAX - n as u64;
        assert_eq!(w.typed.get(absent).await?, None);
        assert!(!w.typed.contains(absent).await?);
        assert_eq!(w.typed.get_many([absent, absent]).await?, [None, None]);
        assert_eq!(w.typed.range(absent..).count().await, 0);
    }
    "TypedTree::get_with" => |w, n| {
        assert_eq!(w.typed.get_with(u64::MAX, |text: &str| text.len()).await?, None);
    }
    "Database::layout Database::outline" => |w, n| {
        let layout = w.db.layout().await?;
        assert!(!layout.slots.is_empty());
        let outline = w.db.outline("t", 2).await?;
        assert!(outline.is_some_and(|outline| outline.height > 1));
        assert!(w.db.outline("there is none", 2).await?.is_none());
    }
    "Structure::next" => |w, n| {
        let mut pages = w.db.structure("t")?.unwrap();
        for _ in 0..10 {
            assert!(pages.next().await?.is_some());
        }
    }
};

/// What looks after a database, and what opens and closes another one.
pub(super) const KEEPING: &[Kind] = kinds! {
    "Database::sync" => |w, n| {
        w.tree.put(super::writes::own(n, 0), super::writes::part(n, 1))
            .durability(Durability::None).await?;
        let before = w.db.stats().sequence;
        w.db.sync().await?;
        assert!(w.db.stats().durable_sequence >= before.min(w.db.stats().sequence));
    }
    "Database::checkpoint" => |w, n| {
        let before = w.db.stats().checkpoints;
        w.db.checkpoint().await?;
        assert!(w.db.stats().checkpoints > before);
    }
    "Database::tidy" => |w, n| { w.db.tidy().await? }
    "Database::compact" => |w, n| { w.db.compact().await.map(drop)? }
    "Database::verify" => |w, n| {
        assert_eq!(w.db.verify().await?.problems, Vec::<String>::new());
    }
    "Database::backup" => |w, n| {
        let to = w.side.join(format!("backup {n}"));
        w.db.backup(&to).await?;
        // Many of them would be much to read, and one is a database like the other.
        if n.is_multiple_of(8) {
            let copy = World::options(w.io).open(&to).await?;
            is_base(copy.tree("t").await?.get(base(n)).await?);
            copy.close().await?;
        }
        let _ = std::fs::remove_dir_all(&to);
    }
    "Options::open Database::close" => |w, n| {
        // The same two again and again: whoever opens one waits until it has been closed.
        let path = w.side.join(format!("other {}", n % 2));
        let db = match World::options(w.io).open(&path).await {
            // Somebody else is just at it, and not about to end.
            Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
            other => other?,
        };
        db.tree("t").await?.put("k", "v").await?;
        db.close().await?;
        assert_eq!(db.sync().await.unwrap_err().kind(), ErrorKind::Closed);
    }
    "Database::open" => |w, n| {
        let db = treering::Database::open(w.side.join("default")).await;
        let db = match db {
            Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
            other => other?,
        };
        db.close().await?;
    }
    "Database::tree Database::tree_with Database::multi_tree Database::multi_tree_with \
     Database::typed" => |w, n| {
        let options = TreeOptions::new;
        assert_eq!(w.db.tree(format!("made {}", n % 7)).await?.name(), format!("made {}", n % 7));
        w.db.tree_with(format!("made {}", n % 7), options()).await?;
        w.db.multi_tree(format!("made multi {}", n % 7)).await?;
        w.db.multi_tree_with(format!("made multi {}", n % 7), options()).await?;
        w.db.typed::<u64, String>(format!("made typed {}", n % 7)).await?;
    }
    "Database::drop_tree Database::rename_tree" => |w, n| {
        let (name, other) = (format!("gone {n}"), format!("gone too {n}"));
        let tree = w.db.tree(&name).await?;
        tree.put(base(n), [b'o'; 150]).durability(Durability::None).await?;
        w.db.rename_tree(&name, &other).await?;
        assert!(tree.contains(base(n)).await?);
        w.db.drop_tree(&other).await?;
        let gone = tree.get(base(n)).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NoSuchTree);
    }
};

//! The shortest way through everything: open, write, read, scan, close, open again.

use futures::TryStreamExt;
use treering::{ErrorKind, Options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t10_t15_what_is_written_is_read_and_is_there_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.tr");
    let options = || Options::new().cache_size(8 << 20).log_size(8 << 20).log_buffer(256 << 10);
    let db = options().open(&path).await.unwrap();
    let users = db.tree("users").await.unwrap();
    users.put(b"k", b"v").await.unwrap();
    assert_eq!(users.get(b"k").await.unwrap().as_deref(), Some(&b"v"[..]));
    let exists = users.insert(b"k", b"w").await.unwrap_err();
    assert_eq!((exists.kind(), exists.operation()), (ErrorKind::KeyExists, Some(0)));
    assert_eq!(users.replace(b"k", b"w").await.unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(users.get_with(b"k", |value| value.len()).await.unwrap(), Some(1));
    let mut batch = db.batch();
    batch.put(&users, b"a", b"1").insert(&users, b"b", b"2").delete(&users, b"k");
    batch.commit().await.unwrap();
    for n in 0..2000u32 {
        users
            .put(n.to_be_bytes(), [7u8; 100])
            .durability(treering::Durability::Buffered)
            .await
            .unwrap();
    }
    let all: Vec<_> = users.range(..).try_collect().await.unwrap();
    assert_eq!(all.len(), 2002);
    let report = db.verify().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.keys, 2002);
    db.close().await.unwrap();
    assert_eq!(users.get(b"a").await.unwrap_err().kind(), ErrorKind::Closed);
    drop((users, db));

    let db = options().open(&path).await.unwrap();
    let users = db.tree("users").await.unwrap();
    let mut backward: Vec<_> = users.range(..).rev().try_collect().await.unwrap();
    backward.reverse();
    assert_eq!(backward, all);
    drop((users, db));

    // Not closed: recovered from the log.
    let db = options().open(&path).await.unwrap();
    let users = db.find_tree("users").unwrap().unwrap();
    assert_eq!(users.get(b"b").await.unwrap().as_deref(), Some(&b"2"[..]));
    assert!(users.take(b"a").await.unwrap().is_some());
    assert!(!users.delete(b"a").await.unwrap());
    db.close().await.unwrap();
}

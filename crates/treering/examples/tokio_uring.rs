//! The engine awaited inside tokio-uring, a runtime with one thread and a ring of its own.
//!
//! Both use io_uring and neither notices the other: the engine has its own rings, and its futures
//! run wherever they are polled.
//!
//! `cargo run --release -p treering --example tokio_uring`

#[cfg(target_os = "linux")]
fn main() -> Result<(), treering::Error> {
    tokio_uring::start(linux::serve())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("io_uring is part of Linux; the other examples run here");
}

#[cfg(target_os = "linux")]
mod linux {
    use treering::{Error, Options};

    const TASKS: u64 = 1000;

    pub(crate) async fn serve() -> Result<(), Error> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // A cache smaller than the data, so that reads go to the disk.
        let options = Options::new().cache_size(128 << 10);
        let db = options.open(folder.path().join("data.tr")).await?;
        let files = db.tree("files").await?;

        // Tasks of this runtime stay on its thread, and wait for the engine side by side.
        let writers: Vec<_> = (0..TASKS)
            .map(|n| {
                let files = files.clone();
                tokio_uring::spawn(
                    async move { files.insert(n.to_be_bytes(), [n as u8; 500]).await },
                )
            })
            .collect();
        for writer in writers {
            writer.await.expect("no task panics")?;
        }

        // The runtime's own file, filled from the engine.
        let path = folder.path().join("copy");
        let copy = tokio_uring::fs::File::create(&path).await.expect("a file can be made");
        let (mut at, mut all) = (0, files.range(..));
        while let Some(chunk) = all.next_chunk().await? {
            let values: Vec<u8> = chunk.iter().flat_map(|(_, value)| value).copied().collect();
            let len = values.len() as u64;
            let (written, _) = copy.write_all_at(values, at).await;
            written.expect("the file can be written");
            at += len;
        }
        copy.close().await.expect("the file can be closed");

        let copied = std::fs::read(&path).expect("the file can be read");
        let expected: Vec<u8> = (0..TASKS).flat_map(|n| [n as u8; 500]).collect();
        assert!(copied == expected, "every value is there, in the order of the keys");
        assert!(db.stats().pool.loads > 0, "some of them came from the disk");
        println!("{TASKS} values, {at} bytes, went through both rings");
        db.close().await
    }
}

//! Row T6: the pages on a raw block device, the log in the folder.
//!
//! The devices are loop devices. Where those may not be made, which takes privileges, the tests say so
//! and show nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // Tests, and what they are made of.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Home, all, assert_sound, both_io, tiny};
use futures::executor::block_on;
use treering::{Durability, ErrorKind, Tree};

/// A loop device on a file; detached in the end.
struct Device {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Device {
    /// `None`, with a message, where that is not allowed.
    fn new(len: u64, sector: usize, fill: u8) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk.img");
        std::fs::write(&file, vec![fill; len as usize]).unwrap();
        let made = Command::new("losetup")
            .args(["--find", "--show", "--sector-size", &sector.to_string()])
            .arg(&file)
            .output();
        match made {
            Ok(made) if made.status.success() => {
                let path = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
                Some(Self { path, _folder: folder })
            }
            Ok(refused) => {
                let why = String::from_utf8_lossy(&refused.stderr).into_owned();
                println!("skipped: no loop device can be made here: {why}");
                None
            }
            Err(error) => {
                println!("skipped: no loop device can be made here: losetup: {error}");
                None
            }
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        assert!(detached.unwrap().success() || std::thread::panicking());
    }
}

async fn put(tree: &Tree, number: u32) -> Result<(), treering::Error> {
    let value = vec![number as u8; 200];
    tree.put(format!("{number:06}"), value).durability(Durability::None).await
}

#[test]
fn t06_a_database_lives_on_a_block_device() {
    for io in both_io() {
        let Some(device) = Device::new(32 << 20, 512, 0) else { return };
        block_on(async {
            let home = Home::new();
            let db = tiny(4096, 64).io(io).device(&device.path).open(&home.path).await.unwrap();
            let pages = std::fs::read_link(home.path.join("pages")).unwrap();
            assert_eq!(pages, device.path.canonicalize().unwrap());
            let tree = db.tree("t").await.unwrap();
            for number in 0..5_000 {
                put(&tree, number).await.unwrap();
            }
            assert_sound(&db).await;
            db.close().await.unwrap();

            // Closed, then killed; with the device named, and without.
            let db = tiny(4096, 64).io(io).open(&home.path).await.unwrap();
            assert_eq!(db.recovery().replayed, 0);
            put(&db.tree("t").await.unwrap(), 5_000).await.unwrap();
            db.sync().await.unwrap();
            drop(db);
            let db = tiny(4096, 64).io(io).device(&device.path).open(&home.path).await.unwrap();
            assert!(db.recovery().replayed > 0);
            let found = all(&db.tree("t").await.unwrap()).await;
            assert_eq!(found.len(), 5_001);
            assert!(found.iter().zip(0u32..).all(|((_, value), n)| value[..] == [n as u8; 200]));
            assert_sound(&db).await;
            db.compact().await.unwrap();
            db.close().await.unwrap();

            // Reading only, and a backup into a folder without a device.
            let db = tiny(4096, 64).io(io).read_only(true).open(&home.path).await.unwrap();
            assert_eq!(all(&db.tree("t").await.unwrap()).await, found);
            db.close().await.unwrap();
            let (copy, db) = (Home::new(), tiny(4096, 64).open(&home.path).await.unwrap());
            db.backup(&copy.path).await.unwrap();
            let twin = tiny(4096, 64).open(&copy.path).await.unwrap();
            assert_eq!(all(&twin.tree("t").await.unwrap()).await, found);
            twin.close().await.unwrap();
            db.close().await.unwrap();
        });
    }
}

#[test]
fn t06_a_device_is_full_at_its_end() {
    let Some(device) = Device::new(2 << 20, 512, 0) else { return };
    block_on(async {
        let home = Home::new();
        let db = tiny(4096, 64).device(&device.path).open(&home.path).await.unwrap();
        let tree = db.tree("t").await.unwrap();
        let mut written = 0;
        let error = loop {
            match put(&tree, written).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        let space = db.stats().space;
        assert!(space.file <= 2 << 20 && space.file > 1 << 20, "{space:?}");
        assert!(written > 2_000, "{written} records of 206 bytes on 2 MiB");
        assert_eq!(all(&tree).await.len(), written as usize);
        assert!(tree.delete("000000").await.unwrap());
        assert_sound(&db).await;
        db.close().await.unwrap();
        let db = tiny(4096, 64).open(&home.path).await.unwrap();
        assert_eq!(all(&db.tree("t").await.unwrap()).await.len(), written as usize - 1);
        db.close().await.unwrap();
    });
}

#[test]
fn t06_what_is_on_a_device_is_lost_only_when_asked_for() {
    let Some(device) = Device::new(8 << 20, 512, 7) else { return };
    block_on(async {
        let home = Home::new();
        let refused = tiny(4096, 64).device(&device.path).open(&home.path).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        let bytes = std::fs::read(&device.path).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7), "it was not touched");
        assert!(!home.path.join("pages").exists());

        let options = tiny(4096, 64).device(&device.path).overwrite_device(true);
        let db = options.open(&home.path).await.unwrap();
        put(&db.tree("t").await.unwrap(), 1).await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();

        // With the option still set, a database that is there is opened and not overwritten.
        let options = tiny(4096, 64).device(&device.path).overwrite_device(true);
        let db = options.open(&home.path).await.unwrap();
        assert_eq!(all(&db.tree("t").await.unwrap()).await.len(), 1);
        db.close().await.unwrap();

        // One whose pages are somewhere else is not opened as if they were here.
        let other = Home::new();
        tiny(4096, 64).open(&other.path).await.unwrap().close().await.unwrap();
        let error = tiny(4096, 64).device(&device.path).open(&other.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        let file = other.path.join("pages");
        let error = tiny(4096, 64).device(file).open(&Home::new().path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    });
}

#[test]
fn t06_pages_are_no_smaller_than_the_devices_blocks() {
    let Some(device) = Device::new(8 << 20, 4096, 0) else { return };
    block_on(async {
        let home = Home::new();
        let error = tiny(512, 64).device(&device.path).open(&home.path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        let db = tiny(4096, 64).device(&device.path).open(&home.path).await.unwrap();
        put(&db.tree("t").await.unwrap(), 1).await.unwrap();
        assert_sound(&db).await;
        db.close().await.unwrap();
    });
}

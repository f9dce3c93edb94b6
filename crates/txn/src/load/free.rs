//! Giving a load back that was not committed.

use treering_blink::Image;
use treering_bufpool::Pool;

use super::entry::LoadEntry;
use super::level::references;
use crate::engine::Engine;
use crate::error::Error;
use crate::replay_large::retire_values;

/// Pages that are fetched at once, at most.
const AT_ONCE: usize = 32;

impl Engine {
    /// Frees all pages of a load, and then its ids. An engine task; what it does not get done, the next
    /// recovery does.
    pub(super) async fn give_back(&self, id: u64, entry: LoadEntry) {
        match self.try_give_back(id, &entry).await {
            Ok(()) => self.loads.forget(id),
            Err(error) if self.check().is_ok() => tracing::warn!(
                %error,
                "not all pages of a bulk load that was given up are free; the next opening frees them"
            ),
            Err(_) => {}
        }
    }

    async fn try_give_back(&self, id: u64, entry: &LoadEntry) -> Result<(), Error> {
        let pool = self.pool();
        // Whoever had one of the ids before the entry is gone would be freed by a recovery.
        let kept = pool.keep_ids();
        let unused = entry.unused(pool);
        let at_once = (pool.frame_count() / 8).clamp(1, AT_ONCE);
        for pages in entry.pages(pool).chunks(at_once) {
            pool.fetch_many(pages).await?;
            for page in pages {
                self.free_built(*page).await?;
            }
        }
        self.write_load_entry(id, None).await?;
        drop(kept);
        for (first, count) in unused {
            pool.return_ids(first, count);
        }
        Ok(())
    }
}

/// The large values of a page that is freed in `epoch` go with it.
pub(super) fn retire_values_of(pool: &Pool, page: &Image, epoch: u64) {
    if page.page().is_leaf() {
        retire_values(pool, &references(page), epoch);
    }
}

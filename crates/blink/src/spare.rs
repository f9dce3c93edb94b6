//! Memory for images that a batch makes before its log record is appended and writes after it, which goes from
//! batch to batch. A batch of a thousand puts may split hundreds of pages: had from the allocator each
//! time, their megabytes would come from the kernel, page by page, and go back to it.

use std::ops::Deref;

use treering_latch::sync::Mutex;

use crate::build::Image;

/// Images that nobody uses.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<Image>>);

/// An image of a batch.
pub(crate) struct Kept<'s> {
    /// There until it is dropped.
    image: Option<Image>,
    spares: &'s Spares,
}

/// Bytes of spare images at most.
const SPARE_MAX: usize = 4 << 20;

impl Spares {
    /// A copy that is kept.
    pub(crate) fn keep(&self, image: &Image) -> Kept<'_> {
        let spare = self.0.lock().pop().filter(|spare| spare.words().len() == image.words().len());
        let kept = match spare {
            Some(mut spare) => {
                spare.words_mut().copy_from_slice(image.words());
                spare
            }
            None => image.clone(),
        };
        Kept { image: Some(kept), spares: self }
    }
}

impl Deref for Kept<'_> {
    type Target = Image;

    fn deref(&self) -> &Image {
        self.image.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        let Some(image) = self.image.take() else { return };
        let mut spares = self.spares.0.lock();
        if (spares.len() + 1) * image.words().len() * 8 <= SPARE_MAX {
            spares.push(image);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_no_more_of_it_kept_than_a_little() {
        let spares = Spares::default();
        let mut image = Image::zeroed(4096);
        image.words_mut()[100] = 7;
        let first = spares.keep(&image);
        let at = first.words().as_ptr();
        drop(first);
        image.words_mut()[100] = 8;
        let second = spares.keep(&image);
        assert_eq!((second.words().as_ptr(), &*second), (at, &image));
        let many: Vec<Kept<'_>> = (0..2000).map(|_| spares.keep(&image)).collect();
        drop(many);
        assert_eq!(spares.0.lock().len() * 4096, SPARE_MAX);
    }
}

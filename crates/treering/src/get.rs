//! Lookups: one synchronous look, and a future only for what is not in memory.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use treering_txn::Error as Inner;

use crate::error::Error;
use crate::tree::Tree;
use crate::value::ValueBytes;
use crate::watch::{Timer, Watch};

type Fetched = BoxFuture<'static, Result<Option<Vec<u8>>, Inner>>;

/// The future of [`Tree::get`].
#[must_use = "futures do nothing unless polled"]
pub struct Get<'t, K> {
    tree: &'t Tree,
    key: K,
    fetching: Option<Fetched>,
    timer: Timer,
}

impl<'t, K: AsRef<[u8]>> Get<'t, K> {
    pub(crate) fn new(tree: &'t Tree, key: K) -> Self {
        Self { tree, key, fetching: None, timer: Timer::default() }
    }
}

impl<K: AsRef<[u8]> + Unpin> Future for Get<'_, K> {
    type Output = Result<Option<ValueBytes>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let fetching = match &mut this.fetching {
            Some(fetching) => fetching,
            None => {
                let mut value = Vec::new();
                this.timer = watch(this.tree).get_begins();
                match look(this.tree, this.key.as_ref(), &mut value)? {
                    Some(found) => {
                        watch(this.tree).get_ends(&this.timer);
                        return Poll::Ready(Ok(found.then(|| value.into())));
                    }
                    None => this.fetching.insert(fetch(this.tree, this.key.as_ref())),
                }
            }
        };
        let value = ready!(fetching.as_mut().poll(cx))?;
        watch(this.tree).get_ends(&this.timer);
        Poll::Ready(Ok(value.map(ValueBytes::from)))
    }
}

/// The future of [`Tree::get_with`].
#[must_use = "futures do nothing unless polled"]
pub struct GetWith<'t, K, F> {
    tree: &'t Tree,
    key: K,
    look: Option<F>,
    fetching: Option<Fetched>,
    timer: Timer,
}

impl<'t, K: AsRef<[u8]>, F> GetWith<'t, K, F> {
    pub(crate) fn new(tree: &'t Tree, key: K, look: F) -> Self {
        Self { tree, key, look: Some(look), fetching: None, timer: Timer::default() }
    }
}

thread_local! {
    /// Where values are looked at. Taken while in use, so that a look may look again.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl<K, F, R> Future for GetWith<'_, K, F>
where
    K: AsRef<[u8]> + Unpin,
    F: FnOnce(&[u8]) -> R + Unpin,
{
    type Output = Result<Option<R>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut with = |value: &[u8]| {
            let user = this.look.take().expect("a future is not polled after it is ready");
            user(value)
        };
        let fetching = match &mut this.fetching {
            Some(fetching) => fetching,
            None => {
                let mut value = SCRATCH.take();
                this.timer = watch(this.tree).get_begins();
                let looked = look(this.tree, this.key.as_ref(), &mut value);
                let result = match looked {
                    Ok(Some(true)) => Some(Ok(Some(with(&value)))),
                    Ok(Some(false)) => Some(Ok(None)),
                    Ok(None) => None,
                    Err(error) => Some(Err(error)),
                };
                SCRATCH.set(value);
                if let Some(result) = result {
                    watch(this.tree).get_ends(&this.timer);
                    return Poll::Ready(result);
                }
                this.fetching.insert(fetch(this.tree, this.key.as_ref()))
            }
        };
        let value = ready!(fetching.as_mut().poll(cx))?;
        watch(this.tree).get_ends(&this.timer);
        Poll::Ready(Ok(value.map(|value| with(&value))))
    }
}

fn look(tree: &Tree, key: &[u8], value: &mut Vec<u8>) -> Result<Option<bool>, Error> {
    Ok(tree.database().shared.engine.get_now(tree.id(), key, value)?)
}

fn watch(tree: &Tree) -> &Watch {
    &tree.database().shared.watch
}

fn fetch(tree: &Tree, key: &[u8]) -> Fetched {
    watch(tree).get_waits();
    let engine = Arc::clone(&tree.database().shared.engine);
    let (id, key) = (tree.id(), key.to_vec());
    Box::pin(async move { engine.get(id, &key).await })
}

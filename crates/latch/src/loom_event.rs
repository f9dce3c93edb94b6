//! `event_listener::Event` in small, on loom's mutex.
//!
//! The real one is built on `std`, which loom does not see: code that looks first and listens then
//! would never lose a wake-up in a model. This one keeps what the engine relies on: a listener is
//! registered when [`Event::listen`] returns; [`Event::notify`] sees to it that at least so many of
//! those that are registered are told; and one that was told and is dropped passes that on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;

/// Something that listeners wait for.
#[derive(Default)]
pub struct Event(Arc<Mutex<List>>);

#[derive(Default)]
struct List {
    given: u64,
    listeners: Vec<Listener>,
}

struct Listener {
    number: u64,
    told: bool,
    waker: Option<Waker>,
}

/// Resolves when it has been told.
#[must_use = "listeners do nothing unless awaited"]
pub struct EventListener {
    list: Arc<Mutex<List>>,
    /// `None` once it has resolved.
    number: Option<u64>,
}

impl Event {
    /// Nobody listens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a listener.
    pub fn listen(&self) -> EventListener {
        let mut list = self.0.lock();
        list.given += 1;
        let number = list.given;
        list.listeners.push(Listener { number, told: false, waker: None });
        EventListener { list: Arc::clone(&self.0), number: Some(number) }
    }

    /// Tells listeners, the oldest first, until `count` of those there are have been told.
    pub fn notify(&self, count: usize) {
        tell(&self.0, |list| count.saturating_sub(list.iter().filter(|one| one.told).count()));
    }
}

fn tell(list: &Mutex<List>, count: impl FnOnce(&[Listener]) -> usize) {
    let mut list = list.lock();
    let count = count(&list.listeners);
    let silent = list.listeners.iter_mut().filter(|one| !one.told).take(count);
    let wakers: Vec<Waker> = silent
        .filter_map(|one| {
            one.told = true;
            one.waker.take()
        })
        .collect();
    drop(list);
    wakers.into_iter().for_each(Waker::wake);
}

impl Future for EventListener {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(number) = self.number else { return Poll::Ready(()) };
        let waker = cx.waker().clone();
        let mut list = self.list.lock();
        let at = list.find(number);
        if !list.listeners[at].told {
            list.listeners[at].waker = Some(waker);
            return Poll::Pending;
        }
        list.listeners.remove(at);
        drop(list);
        self.number = None;
        Poll::Ready(())
    }
}

impl Drop for EventListener {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut list = self.list.lock();
        let at = list.find(number);
        let told = list.listeners.remove(at).told;
        drop(list);
        if told {
            tell(&self.list, |_| 1);
        }
    }
}

impl List {
    fn find(&self, number: u64) -> usize {
        let at = self.listeners.iter().position(|one| one.number == number);
        at.expect("a listener that has not resolved is in the list")
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event")
    }
}

impl fmt::Debug for EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventListener").field("number", &self.number).finish()
    }
}

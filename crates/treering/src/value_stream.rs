//! Large values in pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::AsyncRead;
use futures::future::BoxFuture;
use futures::stream::Stream;
use treering_txn::{
    Durability, Error as Inner, ValueReader as InnerReader, ValueWriter as InnerWriter,
};

use crate::database::Database;
use crate::error::{Error, ErrorKind};
use crate::value::ValueBytes;

/// A value being written in pieces: see [`crate::Tree::write_stream`]. Dropped without
/// [`ValueWriter::commit`] it leaves nothing: its key keeps what it had, and its space is free.
#[must_use = "what is written counts when it is committed"]
pub struct ValueWriter {
    inner: InnerWriter,
    durability: Durability,
    /// The engine does not end before.
    _db: Database,
}

impl ValueWriter {
    pub(crate) fn new(inner: InnerWriter, db: Database) -> Self {
        let durability = db.shared.durability;
        Self { inner, durability, _db: db }
    }

    /// What [`ValueWriter::commit`] waits for, other than what the database's options say.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Takes in the next bytes, waiting while earlier ones are written. About 3 MiB are in memory at
    /// most, however long the value gets.
    ///
    /// Dropping the future half-way makes the writer useless: nobody knows how many bytes it took.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] beyond 1 GiB; [`ErrorKind::Full`]; those of a write. The value is
    /// given up then.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.inner.write(bytes).await?)
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.inner.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    /// Gives the key the value: all of it, or, after an error, nothing. Dropping the future leaves
    /// either.
    ///
    /// # Errors
    /// Those of a write.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit(self.durability).await?;
        Ok(())
    }
}

type Reading = BoxFuture<'static, (Box<InnerReader>, Result<Option<Vec<u8>>, Inner>)>;

/// A value being read in pieces: see [`crate::Tree::read_stream`]. A stream of parts of up to 1 MiB,
/// and an [`AsyncRead`]. One part is in memory at a time.
///
/// It keeps nobody from overwriting the value. What it has begun to read stays readable until the
/// next checkpoint at least; after that it may end with [`ErrorKind::Replaced`].
#[must_use = "streams do nothing unless polled"]
pub struct ValueReader {
    state: State,
    len: u64,
    /// What an [`AsyncRead`] has not taken of a part.
    rest: Vec<u8>,
    rest_at: usize,
    _db: Database,
}

enum State {
    Idle(Box<InnerReader>),
    Reading(Reading),
    Ended,
}

impl ValueReader {
    pub(crate) fn new(inner: InnerReader, db: Database) -> Self {
        let len = inner.len();
        let state = State::Idle(Box::new(inner));
        Self { state, len, rest: Vec::new(), rest_at: 0, _db: db }
    }

    /// Bytes of the whole value.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, Error>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(mut inner) => {
                    self.state = State::Reading(Box::pin(async move {
                        let part = inner.next().await;
                        (inner, part)
                    }));
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((inner, part)) = reading.as_mut().poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    if let Ok(Some(_)) = &part {
                        self.state = State::Idle(inner);
                    }
                    return Poll::Ready(part.map_err(Error::from).transpose());
                }
            }
        }
    }
}

impl Stream for ValueReader {
    type Item = Result<ValueBytes, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.rest_at < this.rest.len() {
            let mut rest = std::mem::take(&mut this.rest);
            rest.drain(..std::mem::take(&mut this.rest_at));
            return Poll::Ready(Some(Ok(rest.into())));
        }
        let part = ready!(this.poll_part(cx));
        Poll::Ready(part.map(|part| part.map(ValueBytes::from)))
    }
}

impl AsyncRead for ValueReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.rest_at == this.rest.len() && !buf.is_empty() {
            this.rest_at = 0;
            this.rest = Vec::new();
            match ready!(this.poll_part(cx)) {
                Some(part) => this.rest = part.map_err(into_io)?,
                None => return Poll::Ready(Ok(0)),
            }
        }
        let rest = &this.rest[this.rest_at..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        this.rest_at += len;
        Poll::Ready(Ok(len))
    }
}

fn into_io(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Damaged => io::ErrorKind::InvalidData,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

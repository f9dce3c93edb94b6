//! An axum service that keeps sessions: they end when nobody has used them for half an hour, and what
//! finds those that have ended is an index that every change keeps in the same batch.
//!
//! ```text
//! cargo run --release -p treering --example sessions                            # tries itself and ends
//! cargo run --release -p treering --example sessions -- --listen 127.0.0.1:8080   # until ctrl-c
//! curl -d ada http://127.0.0.1:8080/login
//! curl http://127.0.0.1:8080/session/4f6c..
//! curl -X DELETE http://127.0.0.1:8080/session/4f6c..
//! ```
//!
//! Handlers await the database directly. axum drops a handler's future when its client hangs up: a
//! change is then there wholly or not at all, index and session together.

use std::io::Read;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use treering::{Database, Error, ErrorKind, Options, Serde, TypedTree};

const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Session {
    user: String,
    requests: u64,
    ends: SystemTime,
}

/// Two trees that always say the same.
#[derive(Clone)]
struct Sessions {
    db: Database,
    by_id: TypedTree<String, Serde<Session>>,
    /// When each session ends, and its id: in the order of time.
    by_end: TypedTree<(SystemTime, String), ()>,
}

impl Sessions {
    async fn open(path: &std::path::Path) -> Result<Self, Error> {
        let db = Options::new().cache_size(64 << 20).open(path).await?;
        let (by_id, by_end) = (db.typed("sessions").await?, db.typed("sessions by end").await?);
        Ok(Self { db, by_id, by_end })
    }

    async fn begin(&self, user: String, now: SystemTime) -> Result<String, Error> {
        let (id, ends) = (random_id(), now + IDLE_MAX);
        let mut batch = self.db.batch();
        batch.typed(&self.by_id).insert(&id, &Session { user, requests: 0, ends });
        batch.typed(&self.by_end).put((ends, &id), ());
        batch.commit().await?; // durable: whoever has the id has a session
        Ok(id)
    }

    /// Counts a request, and puts the end off. `None`: no such session, or not any more.
    async fn touch(&self, id: &str, now: SystemTime) -> Result<Option<Session>, Error> {
        loop {
            let Some(Serde(old)) = self.by_id.get(id).await? else { return Ok(None) };
            if old.ends <= now {
                return Ok(None);
            }
            let mut new = old.clone();
            (new.requests, new.ends) = (old.requests + 1, now + IDLE_MAX);
            let mut batch = self.db.batch();
            // Only if nobody has changed it since: or two requests at once would count as one.
            batch.typed(&self.by_id).require_value(id, &old).put(id, &new);
            batch.typed(&self.by_end).delete((old.ends, id)).put((new.ends, id), ());
            match or_conflict(batch.commit().await)? {
                true => return Ok(Some(new)),
                false => continue,
            }
        }
    }

    async fn end(&self, id: &str) -> Result<bool, Error> {
        loop {
            let Some(Serde(old)) = self.by_id.get(id).await? else { return Ok(false) };
            if self.remove(id, &old).await? {
                return Ok(true);
            }
        }
    }

    /// Takes a session away, unless somebody has changed it.
    async fn remove(&self, id: &str, session: &Session) -> Result<bool, Error> {
        let mut batch = self.db.batch();
        batch.typed(&self.by_id).require_value(id, session).delete(id);
        batch.typed(&self.by_end).delete((session.ends, id));
        or_conflict(batch.commit().await)
    }

    /// Takes away what has ended. Looks at nothing else, however many sessions there are.
    async fn sweep(&self, now: SystemTime) -> Result<usize, Error> {
        let mut removed = 0;
        let mut ended = self.by_end.range(..(now, ""));
        while let Some(((ends, id), ())) = ended.try_next().await? {
            let session = self.by_id.get(&id).await?;
            if let Some(Serde(session)) = session.filter(|session| session.ends == ends) {
                removed += usize::from(self.remove(&id, &session).await?);
            }
        }
        Ok(removed)
    }
}

/// Whether a batch was committed; false if a condition did not hold, so that it has to be made anew.
fn or_conflict(committed: Result<(), Error>) -> Result<bool, Error> {
    match committed {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::ValueDiffers | ErrorKind::KeyMissing) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn random_id() -> String {
    let mut bytes = [0; 16];
    let random =
        std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.expect("Linux has random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What went wrong, as an answer: docs/errors.md says which kinds may be tried again.
struct Failed(Error);

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let status = match self.0.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::Full => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Closed | ErrorKind::Poisoned => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.0.to_string()).into_response()
    }
}

async fn log_in(State(sessions): State<Sessions>, user: String) -> Result<String, Failed> {
    Ok(sessions.begin(user, SystemTime::now()).await?)
}

async fn show(
    State(sessions): State<Sessions>,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    Ok(match sessions.touch(&id, SystemTime::now()).await? {
        Some(session) => format!("{} {}", session.user, session.requests).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

async fn log_out(
    State(sessions): State<Sessions>,
    Path(id): Path<String>,
) -> Result<StatusCode, Failed> {
    Ok(if sessions.end(&id).await? { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
}

fn service(sessions: Sessions) -> Router {
    Router::new()
        .route("/login", post(log_in))
        .route("/session/{id}", get(show).delete(log_out))
        .with_state(sessions)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => try_itself().await,
        ["--listen", address] => {
            let sessions = Sessions::open("sessions.tr".as_ref()).await?;
            let sweeping = tokio::spawn(keep_sweeping(sessions.clone()));
            let listener = TcpListener::bind(address).await?;
            println!("http://{}", listener.local_addr()?);
            let interrupted = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
            let served = axum::serve(listener, service(sessions.clone()));
            served.with_graceful_shutdown(interrupted).await?;
            sweeping.abort(); // wherever it is: a batch is there or not
            Ok(sessions.db.close().await?)
        }
        _ => Err("usage: sessions [--listen ADDRESS:PORT]".into()),
    }
}

async fn keep_sweeping(sessions: Sessions) {
    let mut clock = tokio::time::interval(SWEEP_EVERY);
    loop {
        clock.tick().await;
        match sessions.sweep(SystemTime::now()).await {
            Ok(removed) => println!("{removed} sessions have ended"),
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => eprintln!("sweeping: {error}"),
        }
    }
}

/// A request over plain TCP: the answer's status and body.
async fn ask(
    address: std::net::SocketAddr,
    what: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let (length, mut answer) = (body.len(), String::new());
    let request = format!(
        "{what} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.expect("an answer has a status"), body.to_owned()))
}

async fn try_itself() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let sessions = Sessions::open(&folder.path().join("data.tr")).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = axum::serve(listener, service(sessions.clone()));
    let serving =
        tokio::spawn(
            async move { served.with_graceful_shutdown(async { drop(stopped.await) }).await },
        );

    let (status, ada) = ask(address, "POST /login", "ada").await?;
    assert_eq!((status, ada.len()), (200, 32));
    let (_, alan) = ask(address, "POST /login", "alan").await?;
    let at_ada = format!("GET /session/{ada}");
    // Fifty requests at once: each is counted, and the two trees go on saying the same.
    let requests = (0..50).map(|_| ask(address, &at_ada, ""));
    for (status, _) in futures::future::try_join_all(requests).await? {
        assert_eq!(status, 200);
    }
    assert_eq!(ask(address, &at_ada, "").await?, (200, "ada 51".to_owned()));
    assert_eq!(ask(address, &format!("DELETE /session/{alan}"), "").await?.0, 204);
    assert_eq!(ask(address, &format!("DELETE /session/{alan}"), "").await?.0, 404);
    assert_eq!(sessions.by_end.range(..).try_collect::<Vec<_>>().await?.len(), 1);

    assert_eq!(sessions.sweep(SystemTime::now()).await?, 0, "ada was here just now");
    assert_eq!(sessions.sweep(SystemTime::now() + IDLE_MAX).await?, 1, "not for half an hour");
    assert_eq!(ask(address, &at_ada, "").await?.0, 404);
    assert!(sessions.by_id.range(..).try_next().await?.is_none());
    assert!(sessions.by_end.range(..).try_next().await?.is_none());

    drop(stop);
    serving.await??;
    sessions.db.close().await?;
    println!("54 requests served; what had ended was found by the index");
    Ok(())
}

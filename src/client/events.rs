//! Server-sent events (WHATWG HTML, section 9.2) as the broker sends them: messages, activity.
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use ureq::http::Request;
use ureq::{Agent, BodyReader};

use super::{Answer, Client, Error, Failure};

/// The broker says something every 15 s; one that is silent for so long is gone.
const SILENCE: Duration = Duration::from_secs(45);

/// The longest event that is read: an event of an activity stream, with room to spare.
const MAX_EVENT: u64 = 8 << 20;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// Its place in the stream, to go on after it.
    pub id: Option<String>,
    /// `message` unless the broker says otherwise; `end` is its last word.
    pub name: String,
    pub data: String,
}

/// A stream of events. [`Client::abort`] on the client that opened it (or a clone) ends a read that waits.
pub struct Events {
    lines: BufReader<BodyReader<'static>>,
    line: Vec<u8>,
}

impl Client {
    /// The same broker with the same token, over connections of its own: [`Client::abort`] on one does not disturb
    /// the other.
    #[must_use]
    pub fn apart(&self) -> Client {
        Client { agent: Agent::new_with_config(self.agent.config().clone()), ..self.clone() }
    }

    /// Open a stream of events, after the event `after` if the broker still knows that place.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Answered`] for any other status than 200.
    pub fn events(&self, path: &str, after: Option<&str>) -> Result<Events, Error> {
        let mut request = Request::builder()
            .uri(self.at(path))
            .header("X-AC7-Protocol", "1")
            .header("Accept", "text/event-stream");
        if let Some(token) = &self.token {
            request = request.header("Authorization", &token.header);
        }
        if let Some(id) = after {
            request = request.header("Last-Event-ID", id);
        }
        let bad = |_| Error::BadUrl { url: self.at(path), why: "is not a URL" };
        let configured = self.agent.configure_request(request.body(()).map_err(bad)?);
        let answer_within = self.agent.config().timeouts().global;
        let request = configured
            .timeout_global(None)
            .timeout_recv_response(answer_within)
            .timeout_per_read(Some(SILENCE))
            .build();
        let response = self.reached(self.agent.run(request).map_err(Failure::of))?;
        if response.status() == 200 {
            let lines = BufReader::new(response.into_body().into_reader());
            return Ok(Events { lines, line: Vec::new() });
        }
        let Answer { status, error, .. } = self.reached(self.read(Ok(response), super::MAX_VERDICT))?;
        Err(Error::Answered { url: self.url.clone(), failure: Failure::Status(status, error) })
    }
}

impl Events {
    /// Wait for the next event. `None` where the stream has ended, by itself or because it was aborted.
    ///
    /// # Errors
    /// The connection broke, was aborted, or was silent for 45 s; the stream is of no use any more.
    pub fn next_event(&mut self) -> Result<Option<StreamEvent>, Failure> {
        let (mut id, mut name, mut data) = (None, String::new(), None::<String>);
        let mut left = MAX_EVENT;
        loop {
            self.line.clear();
            let read = (&mut self.lines).take(left).read_until(b'\n', &mut self.line);
            match read.map_err(failed)? {
                0 if left == 0 => return Err(Failure::Other("an event is too long".to_string())),
                0 => return Ok(None),
                read => left -= u64::try_from(read).unwrap_or(left),
            }
            let line = String::from_utf8_lossy(&self.line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                // Comments keep the connection alive; a block without data is no event.
                if let Some(data) = data.take() {
                    let name = if name.is_empty() { "message".to_string() } else { name };
                    return Ok(Some(StreamEvent { id, name, data }));
                }
                (id, name, left) = (None, String::new(), MAX_EVENT);
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => id = Some(value.to_string()),
                "event" => name = value.to_string(),
                "data" => match &mut data {
                    Some(data) => {
                        data.push('\n');
                        data.push_str(value);
                    }
                    None => data = Some(value.to_string()),
                },
                _ => {}
            }
        }
    }
}

fn failed(error: io::Error) -> Failure {
    Failure::of(ureq::Error::from(error))
}

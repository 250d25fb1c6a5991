//! One exchange while it is under way.
use crate::capture::body::{Keep, Recorder};
use crate::capture::exchange::{Body, Cut, Exchange, RequestHead, ResponseHead, Side, Target};
use crate::http1::{Asked, Headers, Length, target};

/// What is known of an exchange whose request head has come.
pub struct Flight {
    pub request: RequestHead,
    pub asked: Asked,
    /// Whether the request asks for another protocol: then what follows it may not be HTTP.
    pub switches: bool,
    pub request_done: bool,
    pub response: Option<ResponseHead>,
    pub response_done: bool,
    request_body: Recorder,
    response_body: Option<Recorder>,
    keep: Keep,
    pub started_at: u64,
    pub ended_at: u64,
}

impl Flight {
    pub fn new(request: RequestHead, keep: Keep, started_at: u64, now: u64) -> Flight {
        let asked = Asked::by(&request.method);
        let switches = asked == Asked::Connect || request.headers.has("connection", "upgrade");
        Flight {
            asked,
            switches,
            request_done: false,
            response: None,
            response_done: false,
            request_body: Recorder::new(&request.headers, keep),
            response_body: None,
            keep,
            started_at,
            ended_at: now,
            request,
        }
    }

    /// Whether this may be a model call.
    pub fn is_call(&self) -> bool {
        matches!(self.keep, Keep::Whole(_))
    }

    /// Whether the bytes behind this request cannot be read yet: its answer decides what they are.
    pub fn blocks(&self) -> bool {
        self.switches && self.request_done && self.response.is_none()
    }

    pub fn request_piece(&mut self, piece: &[u8], now: u64) {
        self.request_body.push(piece, now);
        self.request_at(now);
    }

    /// Something of the request came at `now`: that counts as the end while there is no response.
    pub fn request_at(&mut self, now: u64) {
        if self.response.is_none() {
            self.ended_at = now;
        }
    }

    pub fn answer(&mut self, status: u16, headers: Headers, length: Length, now: u64) {
        let mut body = Recorder::new(&headers, self.keep);
        if length == Length::Switch {
            // What follows is no body; its bytes are counted.
            body.count_only();
            self.request_body.count_only();
        }
        self.response_body = Some(body);
        self.response = Some(ResponseHead { status, headers });
        self.ended_at = now;
    }

    pub fn response_piece(&mut self, piece: &[u8], now: u64) {
        self.ended_at = now;
        if let Some(body) = &mut self.response_body {
            body.push(piece, now);
        }
    }

    fn body(&mut self, side: Side) -> Option<&mut Recorder> {
        match side {
            Side::Agent => Some(&mut self.request_body),
            Side::Upstream => self.response_body.as_mut(),
        }
    }

    /// Whether nothing of the coming bytes of this body is of interest but their number.
    pub fn only_counts(&self, side: Side) -> bool {
        match side {
            Side::Agent => self.request_body.only_counts(),
            Side::Upstream => self.response_body.as_ref().is_some_and(Recorder::only_counts),
        }
    }

    pub fn gap(&mut self, side: Side, lost: u64) {
        if let Some(body) = self.body(side) {
            body.gap(lost);
        }
    }

    /// So many bytes passed, the last of them at `now`, of a body that [`Flight::only_counts`].
    pub fn unseen(&mut self, side: Side, count: u64, now: u64) {
        if let Some(body) = self.body(side) {
            body.unseen(count);
        }
        match side {
            Side::Agent => self.request_at(now),
            Side::Upstream => self.ended_at = now,
        }
    }

    /// The exchange as it is. `cut` is told of what is not complete.
    pub fn land(self, target: &Target, cut: Cut) -> Box<Exchange> {
        let early = |done: bool| if done { None } else { Some(cut) };
        let response_done = self.response_done && self.response.is_some();
        Box::new(Exchange {
            target: place(&self.request, target),
            request_body: self.request_body.finish(early(self.request_done)),
            response_body: match self.response_body {
                Some(body) => body.finish(early(response_done)),
                None => Body { cut: Some(cut), ..Body::default() },
            },
            request: self.request,
            response: self.response,
            started_at: self.started_at,
            ended_at: self.ended_at,
        })
    }
}

/// Where a request goes: through a plain proxy each names its own origin.
pub fn place(request: &RequestHead, connection: &Target) -> Target {
    match target::absolute(&request.target) {
        Some(uri) => Target { scheme: uri.scheme, host: uri.host, port: uri.port },
        None => connection.clone(),
    }
}

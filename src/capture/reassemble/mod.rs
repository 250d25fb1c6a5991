//! From the bytes of one tunnel to exchanges: requests and responses paired in order, bodies decoded.
//!
//! Comes in: pieces of both directions, their gaps and ends, each direction in its own order. Goes out: [`Captured`].
//! It only looks on: whatever it meets, it never fails towards the relay, never alters a byte, never panics. The two
//! directions may arrive out of step by a little, since each is copied by its own relay thread after the bytes went
//! on: so a response may be seen before its request, and frames of a WebSocket before the 101. Such bytes wait.
mod flight;

use super::body::Keep;
use super::exchange::{Captured, Cut, RequestHead, Side, Target};
use super::websocket::{Socket, carries_calls};
use crate::http1::{Fault, Framer, Head, Length, Part, Rules, Start};
use flight::{Flight, place};
use std::collections::VecDeque;

/// Most bytes of one direction that wait for the other.
const WAITING: usize = 1 << 20;

const NO_REQUEST: &str = "a response without a request";
const NO_ANSWER: &str = "too many bytes behind a request to switch protocols";
const TOO_MANY: &str = "too many requests without a response";
const EARLY_SWITCH: &str = "protocols were switched before the request ended";

/// How much of a connection is retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Decoded bytes of a message that may belong to a model call.
    pub whole: usize,
    /// Decoded bytes of any other message.
    pub preview: usize,
    /// Requests that wait for their response.
    pub in_flight: usize,
    pub rules: Rules,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { whole: 16 << 20, preview: 64 << 10, in_flight: 256, rules: Rules::CAPTURE }
    }
}

/// Whether a request may be a model call, so that it and its response are to be retained whole.
pub type Policy = fn(&RequestHead) -> bool;

/// One tunnel, or one connection of a plain proxy.
pub struct Connection {
    target: Target,
    limits: Limits,
    policy: Policy,
    mode: Mode,
    agent: Direction,
    upstream: Direction,
    flights: VecDeque<Flight>,
    /// When the first byte of the request that is coming came.
    began: u64,
}

struct Direction {
    framer: Framer,
    /// What came and cannot be read yet.
    waiting: Vec<u8>,
    /// The direction has ended; what waits may still be read.
    ended: bool,
    /// Its end has taken effect.
    closed: bool,
}

enum Mode {
    Http,
    Socket(Box<Socket>),
    /// Another protocol: the exchange that led to it counts the bytes.
    Raw(Box<Flight>),
    /// Nothing is of interest any more.
    Over,
}

impl Connection {
    #[must_use]
    pub fn new(target: Target, limits: Limits, policy: Policy) -> Connection {
        let direction = |framer| Direction { framer, waiting: Vec::new(), ended: false, closed: false };
        Connection {
            target,
            limits,
            policy,
            mode: Mode::Http,
            agent: direction(Framer::requests(limits.rules)),
            upstream: direction(Framer::responses(limits.rules)),
            flights: VecDeque::new(),
            began: 0,
        }
    }

    /// The next bytes that `side` sent, at `now` (ms since epoch). What they complete is appended to `out`.
    pub fn feed(&mut self, side: Side, bytes: &[u8], now: u64, out: &mut Vec<Captured>) {
        if self.over() || bytes.is_empty() {
            return;
        }
        let mut input = bytes;
        let went =
            if self.side(side).waiting.is_empty() { self.take(side, &mut input, now, out) } else { Ok(()) };
        let went = went.and_then(|()| self.wait(side, input));
        self.settle(went, now, out);
    }

    /// `lost` bytes that `side` sent will never be seen. Inside a body of known length that is a cut of this body
    /// alone; elsewhere the connection is given up.
    pub fn gap(&mut self, side: Side, lost: u64, now: u64, out: &mut Vec<Captured>) {
        if self.over() || lost == 0 {
            return;
        }
        let went = self.skip(side, |flight| flight.gap(side, lost), lost);
        self.settle(went.map_err(Fault::phrase), now, out);
    }

    /// How many of the next bytes of `side` need not be fed, since they would only be counted; see
    /// [`Connection::unseen`].
    #[must_use]
    pub fn unwanted(&self, side: Side) -> u64 {
        let direction = self.direction(side);
        let flight = match (&self.mode, side) {
            (Mode::Over | Mode::Raw(_), _) => return u64::MAX,
            (Mode::Socket(_), _) => return 0,
            (Mode::Http, Side::Agent) => self.flights.back(),
            (Mode::Http, Side::Upstream) => self.answering().map(|at| &self.flights[at]),
        };
        match flight {
            Some(flight) if direction.waiting.is_empty() && flight.only_counts(side) => {
                direction.framer.payload_left()
            }
            _ => 0,
        }
    }

    /// `count` bytes of those that were not wanted have passed, the last of them at `now`.
    pub fn unseen(&mut self, side: Side, count: u64, now: u64, out: &mut Vec<Captured>) {
        if self.over() || count == 0 {
            return;
        }
        let went = self.skip(side, |flight| flight.unseen(side, count, now), count);
        self.settle(went.map_err(Fault::phrase), now, out);
    }

    /// `side` has sent its last byte. Once both sides have, everything has been given out.
    pub fn end(&mut self, side: Side, now: u64, out: &mut Vec<Captured>) {
        self.side(side).ended = true;
        self.settle(Ok(()), now, out);
    }

    /// Whether nothing more will be given out, so that bytes need not be fed any more.
    #[must_use]
    pub fn over(&self) -> bool {
        matches!(self.mode, Mode::Over)
    }

    /// Model calls that have begun and whose exchanges have not been given out.
    #[must_use]
    pub fn calls(&self) -> usize {
        let socket = if let Mode::Socket(socket) = &self.mode { socket.calls() } else { 0 };
        socket + self.flights.iter().filter(|flight| flight.is_call()).count()
    }

    /// Bring everything up to date after something came.
    fn settle(&mut self, went: Result<(), &'static str>, now: u64, out: &mut Vec<Captured>) {
        let went = went.and_then(|()| self.catch_up(now, out));
        if let Err(reason) = went {
            self.give_up(reason, now, out);
        }
        for side in [Side::Agent, Side::Upstream] {
            self.close(side);
        }
        self.release(out);
        if self.agent.ended && self.upstream.ended {
            self.finish(Cut::Ended, out);
        }
    }

    /// Read what waited and need not wait any more.
    fn catch_up(&mut self, now: u64, out: &mut Vec<Captured>) -> Result<(), &'static str> {
        let mut side = Side::Upstream;
        let mut idle = 0;
        while idle < 2 {
            idle += 1;
            if !self.side(side).waiting.is_empty() && !self.blocked(side) {
                let waiting = std::mem::take(&mut self.side(side).waiting);
                let mut input = &waiting[..];
                self.take(side, &mut input, now, out)?;
                self.side(side).waiting = input.to_vec();
                idle = 0;
            }
            side = if side == Side::Agent { Side::Upstream } else { Side::Agent };
        }
        Ok(())
    }

    /// Keep what cannot be read yet.
    fn wait(&mut self, side: Side, bytes: &[u8]) -> Result<(), &'static str> {
        let waiting = &mut self.side(side).waiting;
        if waiting.len() + bytes.len() > WAITING {
            return Err(if side == Side::Agent { NO_ANSWER } else { NO_REQUEST });
        }
        waiting.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether the next bytes of `side` cannot be read before something comes from the other one.
    fn blocked(&self, side: Side) -> bool {
        match (&self.mode, side) {
            (Mode::Http, Side::Agent) => self.flights.back().is_some_and(Flight::blocks),
            (Mode::Http, Side::Upstream) => self.answering().is_none(),
            _ => false,
        }
    }

    /// Read from the front of `input` until it is empty or the direction is blocked.
    fn take(
        &mut self,
        side: Side,
        input: &mut &[u8],
        now: u64,
        out: &mut Vec<Captured>,
    ) -> Result<(), &'static str> {
        while !input.is_empty() && !self.blocked(side) {
            match &mut self.mode {
                Mode::Http => match side {
                    Side::Agent => self.read_request(input, now),
                    Side::Upstream => self.read_response(input, now, out),
                }?,
                Mode::Socket(socket) => return socket.feed(side, std::mem::take(input), now, out),
                Mode::Raw(flight) => {
                    let bytes = std::mem::take(input);
                    match side {
                        Side::Agent => flight.request_piece(bytes, now),
                        Side::Upstream => flight.response_piece(bytes, now),
                    }
                }
                Mode::Over => *input = &[],
            }
        }
        Ok(())
    }

    /// Read requests until `input` is empty or one ends.
    fn read_request(&mut self, input: &mut &[u8], now: u64) -> Result<(), &'static str> {
        let framer = &mut self.agent.framer;
        loop {
            let idle = framer.idle();
            let part = framer.next(input).map_err(Fault::phrase)?;
            if idle && (part.is_some() || !framer.idle()) {
                self.began = now;
            }
            match part {
                None => return Ok(()),
                Some(Part::Head(head)) => {
                    let Head { start: Start::Request { method, target }, headers, .. } = *head else {
                        return Err(Fault::NotHttp.phrase());
                    };
                    if self.flights.len() >= self.limits.in_flight {
                        return Err(TOO_MANY);
                    }
                    let request = RequestHead { method, target, headers };
                    let keep = if (self.policy)(&request) {
                        Keep::Whole(self.limits.whole)
                    } else {
                        Keep::Preview(self.limits.preview)
                    };
                    self.flights.push_back(Flight::new(request, keep, self.began, now));
                }
                Some(part) => {
                    let Some(flight) = self.flights.back_mut() else { return Err(Fault::NotHttp.phrase()) };
                    match part {
                        Part::Body(piece) => flight.request_piece(piece, now),
                        Part::End => {
                            flight.request_done = true;
                            flight.request_at(now);
                            return Ok(());
                        }
                        Part::Trailers(_) | Part::Head(_) => {}
                    }
                }
            }
        }
    }

    /// Read responses until `input` is empty or one ends.
    fn read_response(
        &mut self,
        input: &mut &[u8],
        now: u64,
        out: &mut Vec<Captured>,
    ) -> Result<(), &'static str> {
        // The end of a response without a body, as those before the final one (1xx) are, follows its head at once.
        let mut interim = false;
        loop {
            let Some(at) = self.answering() else { return Err(NO_REQUEST) };
            let flight = &mut self.flights[at];
            self.upstream.framer.answers(flight.asked);
            match self.upstream.framer.next(input).map_err(Fault::phrase)? {
                None => return Ok(()),
                Some(Part::Head(head)) => {
                    let Head { start: Start::Response { status }, headers, length, .. } = *head else {
                        return Err(Fault::NotHttp.phrase());
                    };
                    if length == Length::Switch {
                        flight.answer(status, headers, length, now);
                        return self.switch(at, now, out);
                    }
                    interim = status < 200;
                    if !interim {
                        flight.answer(status, headers, length, now);
                    }
                }
                Some(Part::Body(piece)) => flight.response_piece(piece, now),
                Some(Part::Trailers(_)) => {}
                Some(Part::End) if interim => interim = false,
                Some(Part::End) => {
                    flight.response_done = true;
                    flight.ended_at = now;
                    return Ok(());
                }
            }
        }
    }

    /// The response to `flights[at]` switches protocols.
    fn switch(&mut self, at: usize, now: u64, out: &mut Vec<Captured>) -> Result<(), &'static str> {
        if at + 1 != self.flights.len() || !self.flights[at].request_done {
            return Err(EARLY_SWITCH);
        }
        self.release(out);
        let Some(mut flight) = self.flights.pop_back() else { return Err(NO_REQUEST) };
        flight.response_done = true;
        let websocket =
            flight.response.as_ref().filter(|r| r.status == 101 && r.headers.has("upgrade", "websocket"));
        self.mode = match websocket.cloned() {
            None => Mode::Raw(Box::new(flight)),
            Some(response) => {
                let target = place(&flight.request, &self.target);
                let limits = (self.limits.whole, self.limits.preview);
                let times = (flight.started_at, now);
                let socket = Socket::new(target, flight.request.clone(), response, limits, times);
                if carries_calls(&flight.request) {
                    out.push(Captured::Exchange(flight.land(&self.target, Cut::Ended)));
                }
                Mode::Socket(Box::new(socket))
            }
        };
        Ok(())
    }

    /// The first exchange whose response has not ended.
    fn answering(&self) -> Option<usize> {
        self.flights.iter().position(|flight| !flight.response_done)
    }

    /// Go on behind `lost` bytes, of which `tell` tells the exchange.
    fn skip(&mut self, side: Side, tell: impl Fn(&mut Flight), lost: u64) -> Result<(), Fault> {
        if !self.side(side).waiting.is_empty() || self.blocked(side) {
            return Err(Fault::Gap);
        }
        match (&mut self.mode, side) {
            (Mode::Http, Side::Agent) => {
                self.agent.framer.skip(lost)?;
                let flight = self.flights.back_mut().ok_or(Fault::Gap)?;
                tell(flight);
                // They may have been the rest of the body.
                if self.agent.framer.next(&mut &[][..])? == Some(Part::End) {
                    flight.request_done = true;
                }
            }
            (Mode::Http, Side::Upstream) => {
                self.upstream.framer.skip(lost)?;
                let at = self.answering().ok_or(Fault::Gap)?;
                let flight = &mut self.flights[at];
                tell(flight);
                if self.upstream.framer.next(&mut &[][..])? == Some(Part::End) {
                    flight.response_done = true;
                }
            }
            (Mode::Socket(_), _) => return Err(Fault::Gap),
            (Mode::Raw(flight), _) => tell(flight),
            (Mode::Over, _) => {}
        }
        Ok(())
    }

    /// Let the end of `side` take effect once everything before it has been read.
    fn close(&mut self, side: Side) {
        let direction = self.side(side);
        if !direction.ended || direction.closed || !direction.waiting.is_empty() {
            return;
        }
        direction.closed = true;
        let completes = matches!(direction.framer.end(), Ok(Some(Part::End)));
        if let (Side::Upstream, true, Some(at)) = (side, completes, self.answering()) {
            self.flights[at].response_done = true;
        }
    }

    /// Give out, in order, what is complete or can not become so.
    fn release(&mut self, out: &mut Vec<Captured>) {
        while let Some(flight) = self.flights.front() {
            let request_over = flight.request_done || self.agent.closed;
            let response_over = flight.response_done || self.upstream.closed;
            if !request_over || !response_over {
                return;
            }
            let flight = self.flights.pop_front();
            out.extend(flight.map(|flight| Captured::Exchange(flight.land(&self.target, Cut::Ended))));
        }
    }

    /// Give out whatever there is; nothing will come after it.
    fn finish(&mut self, cut: Cut, out: &mut Vec<Captured>) {
        for flight in std::mem::take(&mut self.flights) {
            out.push(Captured::Exchange(flight.land(&self.target, cut)));
        }
        match std::mem::replace(&mut self.mode, Mode::Over) {
            Mode::Socket(socket) => socket.end(out),
            Mode::Raw(flight) => out.push(Captured::Exchange(flight.land(&self.target, cut))),
            Mode::Http | Mode::Over => {}
        }
        for side in [Side::Agent, Side::Upstream] {
            self.side(side).waiting = Vec::new();
        }
    }

    fn give_up(&mut self, reason: &'static str, now: u64, out: &mut Vec<Captured>) {
        let cut = if reason == Fault::Gap.phrase() { Cut::Gap } else { Cut::Ended };
        self.finish(cut, out);
        out.push(Captured::GaveUp { target: self.target.clone(), reason, at: now });
    }

    fn direction(&self, side: Side) -> &Direction {
        match side {
            Side::Agent => &self.agent,
            Side::Upstream => &self.upstream,
        }
    }

    fn side(&mut self, side: Side) -> &mut Direction {
        match side {
            Side::Agent => &mut self.agent,
            Side::Upstream => &mut self.upstream,
        }
    }
}

#[cfg(test)]
mod pipelines;
#[cfg(test)]
mod tests;

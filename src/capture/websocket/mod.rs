//! WebSockets after their upgrade: model calls of the OpenAI Responses API one by one, anything else as one summary.
//!
//! Comes in: the bytes of both directions behind the 101. Goes out: [`Captured`] calls or a summary.
//! The two directions may arrive out of step by a little: each is copied by its own relay thread.
mod calls;
mod frames;

pub use frames::{Frames, Message};

use super::exchange::{Captured, RequestHead, ResponseHead, Side, SocketCall, SocketSummary, Target};
use calls::{Call, Calls};

/// A connection that has been upgraded.
pub struct Socket {
    target: Target,
    request: RequestHead,
    response: ResponseHead,
    agent: Frames,
    upstream: Frames,
    carries: Carries,
    started_at: u64,
    ended_at: u64,
}

/// What is retained.
enum Carries {
    Calls(Calls),
    Other { keep: usize, agent: Vec<u8>, upstream: Vec<u8> },
}

impl Socket {
    /// `whole`: how many bytes of a model call each way are retained; `preview`: of another socket's text each way.
    #[must_use]
    pub fn new(
        target: Target,
        request: RequestHead,
        response: ResponseHead,
        (whole, preview): (usize, usize),
        (started_at, now): (u64, u64),
    ) -> Socket {
        let carries = if carries_calls(&request) {
            Carries::Calls(Calls::new(whole))
        } else {
            Carries::Other { keep: preview, agent: Vec::new(), upstream: Vec::new() }
        };
        let [agent, upstream] =
            [Side::Agent, Side::Upstream].map(|side| Frames::new(side, &response.headers));
        Socket { target, request, response, agent, upstream, carries, started_at, ended_at: now }
    }

    /// The next bytes that `side` sent, at `now`.
    ///
    /// # Errors
    /// A fixed phrase; the socket cannot be followed further and is to be ended.
    pub fn feed(
        &mut self,
        side: Side,
        mut bytes: &[u8],
        now: u64,
        out: &mut Vec<Captured>,
    ) -> Result<(), &'static str> {
        self.ended_at = self.ended_at.max(now);
        loop {
            let keep = self.wanted(side);
            let frames = match side {
                Side::Agent => &mut self.agent,
                Side::Upstream => &mut self.upstream,
            };
            let Some(message) = frames.next(&mut bytes, keep, now)? else { return Ok(()) };
            match &mut self.carries {
                Carries::Calls(calls) => {
                    let done = match side {
                        Side::Agent => calls.asked(message, now)?,
                        Side::Upstream => calls.answered(message, now).into_iter().collect(),
                    };
                    for call in done {
                        let call = self.call(call, false);
                        out.push(call);
                    }
                }
                Carries::Other { keep, agent, upstream } if message.text => {
                    let first = if side == Side::Agent { agent } else { upstream };
                    if !first.is_empty() && first.len() < *keep {
                        first.push(b'\n');
                    }
                    let room = *keep - first.len();
                    first.extend_from_slice(&message.bytes[..message.bytes.len().min(room)]);
                    if first.len() >= *keep {
                        frames.count_only();
                    }
                }
                Carries::Other { .. } => {}
            }
        }
    }

    /// The connection has ended, or cannot be followed further: give out what was not complete.
    pub fn end(mut self, out: &mut Vec<Captured>) {
        if let Carries::Calls(calls) = &mut self.carries {
            for call in calls.rest() {
                let call = self.call(call, true);
                out.push(call);
            }
            return;
        }
        let Carries::Other { agent, upstream, .. } = self.carries else { return };
        let ((messages_up, bytes_up), (messages_down, bytes_down)) =
            (self.agent.counts(), self.upstream.counts());
        out.push(Captured::SocketSummary(Box::new(SocketSummary {
            target: self.target,
            request: self.request,
            response: self.response,
            messages_up,
            messages_down,
            bytes_up,
            bytes_down,
            first_up: agent,
            first_down: upstream,
            started_at: self.started_at,
            ended_at: self.ended_at,
        })));
    }

    /// Model calls that have not ended.
    #[must_use]
    pub fn calls(&self) -> usize {
        if let Carries::Calls(calls) = &self.carries { calls.open() } else { 0 }
    }

    /// How many bytes of a text message that begins now are wanted.
    fn wanted(&self, side: Side) -> usize {
        match (&self.carries, side) {
            (Carries::Calls(calls), Side::Agent) => calls.room_to_ask(),
            (Carries::Calls(calls), Side::Upstream) => calls.room_to_answer(),
            (Carries::Other { keep, agent, .. }, Side::Agent) => keep - agent.len(),
            (Carries::Other { keep, upstream, .. }, Side::Upstream) => keep - upstream.len(),
        }
    }

    fn call(&self, call: Call, ended: bool) -> Captured {
        Captured::SocketCall(Box::new(SocketCall {
            target: self.target.clone(),
            request: self.request.clone(),
            response: self.response.clone(),
            asked: call.asked,
            answered: call.answered,
            started_at: call.started_at,
            ended_at: call.ended_at,
            truncated: call.truncated || ended,
        }))
    }
}

/// Whether a socket opened by this request carries calls of the Responses API.
#[must_use]
pub fn carries_calls(request: &RequestHead) -> bool {
    let path = request.target.split(['?', '#']).next().unwrap_or_default();
    path.ends_with("/responses")
}

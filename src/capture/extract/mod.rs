//! From a completed exchange to an event.

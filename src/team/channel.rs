//! Channels: named conversations that members join.

/// The channel that everybody is in: its id, and its slug.
pub const GENERAL: &str = "general";

//! What calls used and what that costs.
//!
//! Comes in: sums of stored calls, a table of prices. Goes out: a [`Report`] with its JSON. Tokens are the providers'
//! own numbers. Costs are estimates: a list price for each token, without discounts; a model without a price has
//! none, and is counted.
mod prices;
mod report;

pub use prices::{Bad, Prices, Tokens, cost_of};
pub use report::{By, Report, Row};

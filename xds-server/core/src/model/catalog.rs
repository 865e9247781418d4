//! What every source says about every service, at this moment.
use serde::Serialize;
/// How far an answer of a registry can be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Evidence {
    /// The registry proved that the listing is complete and not older than anything seen before.
    Complete,
    /// The registry is not the one it was (another cluster id, a revision that went backwards): what is missing may
    /// have been lost rather than removed.
    NewEpoch { why: String },
}
#[derive(Debug)]
pub struct Catalog;
#[derive(Debug)]
pub struct ChangeSet;
#[derive(Debug)]
pub struct Entry;
#[derive(Debug)]
pub struct Presence;

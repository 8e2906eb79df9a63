//! What a server answers, or why it does not.

use crate::error::Error;
use std::io::Read;

/// What a server sends.
pub struct Body {
    /// The place in the archive where it begins.
    pub from: u64,
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

/// Why a connection brought no more.
#[derive(Debug)]
// Without a network nobody says most of them.
#[cfg_attr(not(feature = "fetch"), allow(dead_code))]
pub enum Cut {
    /// Another one may bring the rest.
    Again(String),
    /// There is no way to the server: another one may bring the rest where one was there before.
    Away(String),
    /// What is there is not the beginning of what the server has.
    StartOver,
    /// No other one would.
    Final(String),
    /// Nobody wants it any more, or it cannot be written.
    Here(Error),
}

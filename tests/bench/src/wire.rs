//! Delta ADS by hand: only what the driver and the floor server say, so that neither pays for what it does not use.

pub(crate) mod ads;
pub(crate) mod h2;
pub(crate) mod pb;

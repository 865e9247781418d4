//! Randomness that can be repeated: every use says its seed, and `LEADSMAN_SEED` sets it.

/// A generator for the test that runs on this thread.
pub fn rng() -> fastrand::Rng {
    fastrand::Rng::with_seed(leadsman_property::seed())
}

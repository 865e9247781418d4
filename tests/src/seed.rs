//! Randomness that can be repeated: every use prints its seed, and `LEADSMAN_TEST_SEED` sets it.

/// A generator for one test.
///
/// # Panics
/// When `LEADSMAN_TEST_SEED` is set to something that is no number.
pub fn rng(test: &str) -> fastrand::Rng {
    #[expect(clippy::disallowed_methods, reason = "the only input a test takes")]
    let given = std::env::var("LEADSMAN_TEST_SEED");
    let seed = given.map_or_else(
        |_| fastrand::u64(..),
        |text| {
            text.parse()
                .unwrap_or_else(|error| panic!("LEADSMAN_TEST_SEED={text}: {error}"))
        },
    );
    eprintln!("{test}: repeat with LEADSMAN_TEST_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

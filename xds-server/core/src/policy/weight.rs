//! Registry weights, each in its own unit, to Envoy's `load_balancing_weight`.
//!
//! Envoy takes whole numbers from 1, and their sum in a locality must fit 32 bits
//! (<https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/endpoint/v3/endpoint_components.proto>). Proportions are
//! what matters, so a service whose weights are whole numbers keeps them as they are.

use crate::model::Weight;

/// The largest weight that is published: 65 536 endpoints of it still fit 32 bits.
pub const MAX_WEIGHT: u32 = 65_535;

/// Fractions are kept to the hundredth: a Nacos weight of 0.5 becomes 50 where its sibling's 1.0 becomes 100.
const FRACTION: f64 = 100.0;

/// How the weights of one service are scaled: one factor for all of its endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightScale {
    factor: f64,
}

impl WeightScale {
    /// The factor that keeps whole numbers, makes fractions whole, and brings the heaviest down to [`MAX_WEIGHT`].
    pub fn of(weights: impl Iterator<Item = Weight>) -> Self {
        let mut fractional = false;
        let mut heaviest: f64 = 0.0;
        for weight in weights {
            fractional |= weight.get().fract() != 0.0;
            heaviest = heaviest.max(weight.get());
        }
        let factor = if fractional { FRACTION } else { 1.0 };
        let most = f64::from(MAX_WEIGHT);
        Self {
            factor: if heaviest * factor > most {
                most / heaviest
            } else {
                factor
            },
        }
    }

    /// The factor that brings the heaviest to [`MAX_WEIGHT`], for weights of which only the proportions mean anything.
    pub fn finest(weights: impl Iterator<Item = Weight>) -> Self {
        let heaviest = weights.map(Weight::get).fold(0.0, f64::max);
        Self {
            factor: if heaviest > 0.0 {
                f64::from(MAX_WEIGHT) / heaviest
            } else {
                1.0
            },
        }
    }

    /// From 1 to [`MAX_WEIGHT`]; the least weight is never nothing, since that would be a removal.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value was clamped to 1..=65535"
    )]
    pub fn apply(self, weight: Weight) -> u32 {
        (weight.get() * self.factor).round().clamp(1.0, f64::from(MAX_WEIGHT)) as u32
    }

    /// Why a published weight is not the registry's number, if it is not.
    pub fn reason(self, raw: Weight) -> String {
        if self.factor == 1.0 {
            String::new()
        } else {
            format!("{raw} scaled by {}", self.factor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &[f64], published: &[u32]) {
        let weights: Vec<Weight> = raw.iter().map(|raw| Weight::new(*raw).unwrap()).collect();
        let scale = WeightScale::of(weights.iter().copied());
        assert_eq!(
            weights.iter().map(|weight| scale.apply(*weight)).collect::<Vec<_>>(),
            published
        );
    }

    #[test]
    fn whole_weights_are_kept_fractions_are_made_whole_and_giants_are_scaled_down() {
        check(&[1.0, 10.0, 100.0], &[1, 10, 100]);
        check(&[0.5, 1.0], &[50, 100]);
        check(&[0.001, 1.0], &[1, 100]);
        check(&[1e300, 1e300, 1.0], &[65_535, 65_535, 1]);
        check(&[131_070.0, 65_535.0], &[65_535, 32_768]);
        check(&[], &[]);
    }
}

//! What many measurements come to. Knows nothing of what was measured.

/// Of the runs of one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (upper, lower) = (values.len() / 2, values.len().saturating_sub(1) / 2);
        let median = f64::midpoint(*values.get(lower)?, values[upper]);
        Some(Self { min: values[0], median, max: values[values.len() - 1] })
    }
}

/// The least value that this many of a hundred are not above. None of nothing.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        let median = |values: &[f64]| Spread::of(values.to_vec()).map(|spread| spread.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(Spread::of(vec![9.0, 1.0, 2.0, 4.0]), Some(Spread { min: 1.0, median: 3.0, max: 9.0 }));
    }

    #[test]
    fn percentile_is_a_value_that_was_there() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        let at = |percent| percentile(&values, percent);
        assert_eq!(
            (at(0), at(1), at(50), at(99), at(100)),
            (Some(1.0), Some(2.0), Some(100.0), Some(198.0), Some(200.0))
        );
        assert_eq!(percentile(&[5.0, 7.0], 50), Some(5.0));
        assert_eq!(percentile(&[5.0, 7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }
}

//! What the server says of itself at `/metrics`.

use super::Target;

/// The page as it was at one moment.
pub(super) struct Metrics(String);

impl Target {
    /// `None`: it does not show them to us.
    pub(super) async fn metrics(&self) -> Option<Metrics> {
        let url = format!("{}/metrics", self.api.strip_suffix("/api")?);
        let response = self.client.get(url).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        Some(Metrics(response.text().await.ok()?))
    }
}

impl Metrics {
    /// A number without labels.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The quantile `q` of what a histogram has got since `before`, within its bucket evenly spread.
    pub(super) fn quantile_since(&self, before: &Self, name: &str, q: f64) -> Option<f64> {
        let (now, before) = (self.buckets(name), before.buckets(name));
        let count_before = |bound: f64| before.iter().find(|(b, _)| *b >= bound).map_or(0.0, |(_, n)| *n);
        let grown: Vec<_> =
            now.into_iter().map(|(bound, count)| (bound, count - count_before(bound))).collect();
        let rank = grown.last().map(|(_, count)| count * q).filter(|rank| *rank > 0.0)?;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in grown {
            if count >= rank {
                // Beyond the last bound nothing is known.
                return Some(if bound.is_finite() {
                    from + (bound - from) * (rank - below) / (count - below)
                } else {
                    from
                });
            }
            (from, below) = (bound, count);
        }
        None
    }

    /// Upper bounds and how many were at most that large.
    fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let prefix = format!("{name}_bucket{{le=\"");
        let bucket = |line: &str| {
            let (bound, count) = line.strip_prefix(&prefix)?.split_once("\"} ")?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        };
        self.0.lines().filter_map(bucket).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_counts_what_came_since() {
        let page = |counts: [u32; 4]| {
            let lines = ["0.1", "0.2", "0.4", "+Inf"].iter().zip(counts);
            let lines = lines.map(|(bound, count)| format!("x_seconds_bucket{{le=\"{bound}\"}} {count}\n"));
            Metrics(format!("x_seconds_max 9\nx 7\n{}", lines.collect::<String>()))
        };
        let (before, after) = (page([10, 10, 10, 10]), page([60, 100, 110, 110]));
        let near = |q, expected: f64| {
            let found = after.quantile_since(&before, "x_seconds", q).unwrap();
            assert!((found - expected).abs() < 1e-9, "{q}: {found}");
        };
        near(0.25, 0.05);
        near(0.5, 0.1);
        near(0.7, 0.15);
        near(0.95, 0.3);
        assert!(after.quantile_since(&after, "x_seconds", 0.5).is_none());
        assert_eq!((after.value("x"), after.value("y")), (Some(7.0), None));
    }
}

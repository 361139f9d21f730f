//! Small worlds in which every expectation can be written down.

/// 12 prompts, 8 completions, and four policies; no random numbers.
pub struct Toy {
    pub rho: Vec<f64>,
    pub policy: Vec<f64>,
    pub old: Vec<f64>,
    pub truth: Vec<f64>,
    pub reward: Vec<f64>,
    /// log policy - log reference.
    pub l: Vec<f64>,
    /// log policy - log old.
    pub lw: Vec<f64>,
    /// rho x policy.
    pub deploy: Vec<f64>,
    /// rho x old.
    pub train: Vec<f64>,
}

pub const KL_COEF: f64 = 0.1;
pub const TAU: f64 = 1.0;
pub const COMPLETIONS: usize = 8;

fn softmax(logits: [f64; COMPLETIONS]) -> [f64; COMPLETIONS] {
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.map(|z| z.exp() / total)
}

impl Toy {
    pub fn new() -> Self {
        let total: f64 = (0..12).map(|x| 1.0 + 0.5 * f64::from(x).sin()).sum();
        let mut toy = Self {
            rho: Vec::new(),
            policy: Vec::new(),
            old: Vec::new(),
            truth: Vec::new(),
            reward: Vec::new(),
            l: Vec::new(),
            lw: Vec::new(),
            deploy: Vec::new(),
            train: Vec::new(),
        };
        for row in 0..12_u32 {
            let x = f64::from(row);
            let rho = (1.0 + 0.5 * x.sin()) / total;
            let y: [f64; COMPLETIONS] = core::array::from_fn(|y| y as f64);
            let truth = y.map(|y| f64::from(u8::from((3.0 * x + 5.0 * y) % 7.0 < 2.0)));
            let logits = y.map(|y| (1.3 * x + 2.1 * y).sin());
            let reference = softmax(logits);
            let at = |f: &dyn Fn(usize) -> f64| softmax(core::array::from_fn(f));
            let old = at(&|k| logits[k] + 0.3 * (x + y[k]).cos());
            let policy = at(&|k| logits[k] + 1.5 * truth[k] + 0.8 * (0.7 * x - 1.9 * y[k]).cos());
            toy.rho.push(rho);
            for k in 0..COMPLETIONS {
                let noise = 0.25 * (2.7 * x + 1.1 * y[k]).sin();
                toy.truth.push(truth[k]);
                toy.reward.push((truth[k] + noise).clamp(0.0, 1.0));
                toy.l.push((policy[k] / reference[k]).ln());
                toy.lw.push((policy[k] / old[k]).ln());
                toy.deploy.push(rho * policy[k]);
                toy.train.push(rho * old[k]);
            }
            toy.policy.extend(policy);
            toy.old.extend(old);
        }
        toy
    }

    /// Score of atom `at`: reward minus the clipped KL term.
    pub fn score(&self, at: usize) -> f64 {
        self.reward[at] - KL_COEF * self.l[at].clamp(-TAU, TAU)
    }

    /// Expectation under the deployment distribution.
    pub fn mean(&self, f: impl Fn(usize) -> f64) -> f64 {
        (0..self.deploy.len())
            .map(|at| self.deploy[at] * f(at))
            .sum()
    }
}

/// Uniform numbers from a counter, for simulations: SplitMix64.
pub struct Uniform(pub u64);

impl Uniform {
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// An index drawn with these weights.
    pub fn index(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut left = self.next() * total;
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len() - 1
    }
}

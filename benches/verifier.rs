//! The verifier: verdicts per second, from two strings each.
//!
//! `simple` has a bar of 100,000 verdicts per second on one core, `worst` of 10 ms for its slowest
//! entry; both are checked and printed before the timing starts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rlvr_verifier::{Gold, Policy, grade};

type Pair = (String, String);

/// A fixed sequence of numbers: xorshift.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, range: i64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % range as u64) as i64
    }
}

/// 40 % integers, 20 % decimals and fractions, 10 % thousands, units and percent, 10 % pairs, 20 %
/// boxed numbers behind 300 characters; half of them right.
fn simple() -> Vec<Pair> {
    let mut numbers = Numbers(88_172_645_463_325_252);
    (0..1000)
        .map(|index| {
            let n = numbers.below(100_000);
            let m = n + i64::from(index % 2 == 1);
            match index % 10 {
                0..=3 => (n.to_string(), m.to_string()),
                4 => (format!("{n}.5"), format!("{m}.50")),
                5 => (
                    format!("\\frac{{{n}}}{{7}}"),
                    format!("\\frac{{{}}}{{14}}", 2 * m),
                ),
                6 => with_sign(index / 10 % 3, n, m),
                7 => (format!("({n}, {})", n + 3), format!("({m},{})", n + 3)),
                _ => {
                    let words = "We add the two numbers and see that it is so. ".repeat(7);
                    (n.to_string(), format!("{}\\boxed{{{m}}}", &words[..288]))
                }
            }
        })
        .collect()
}

fn with_sign(kind: usize, n: i64, m: i64) -> Pair {
    match kind {
        0 => (
            format!("{},{:03}", n / 1000 + 1, n % 1000),
            (n + 1000 + m - n).to_string(),
        ),
        1 => (format!("{n} cm"), m.to_string()),
        _ => (format!("{}\\%", n % 90), format!("0.{:02}", n % 90 + m - n)),
    }
}

fn algebra() -> Vec<Pair> {
    [
        ("(x+y)^6(x-y)", "(x-y)(x+y)^6"),
        ("x^2+2x+1", "(x+1)^2"),
        (r"\frac{1}{x+1}+\frac{1}{x-1}", r"\frac{2x}{x^2-1}"),
        (r"\sqrt{50}+\sqrt{18}", r"8\sqrt{2}"),
        (r"\frac{1}{\sqrt{3}-1}", r"\frac{\sqrt{3}+1}{2}"),
        ("5x-7y+11z+4=0", "10x-14y+22z+8=0"),
        (r"(-\infty,2)\cup(3,\infty)", r"x<2 \text{ or } x>3"),
        ("x^3-y^3", "(x-y)(x^2+xy-y^2)"),
    ]
    .map(|(a, b)| (a.to_string(), b.to_string()))
    .to_vec()
}

fn points() -> Vec<Pair> {
    [
        (r"\ln 6", r"\ln 2+\ln 3"),
        (r"\frac{1+\sqrt5}{2}", r"2\cos\frac{\pi}{5}"),
        (r"\cos 2x", r"1-2\sin^2 x"),
        (r"e^{i\pi/4}", r"\frac{1+i}{\sqrt2}"),
        (r"\arctan 2", r"\frac{\pi}{2}-\arctan\frac12"),
        (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"),
        (r"\sin 15^\circ", r"\sin 16^\circ"),
        (r"\log_b a", r"\frac{\ln a}{\ln b}"),
    ]
    .map(|(a, b)| (a.to_string(), b.to_string()))
    .to_vec()
}

/// The slowest inputs that fuzzing has found.
fn worst() -> Vec<Pair> {
    let text = include_str!("../fixtures/verifier/worst.txt");
    let pair = |line: &str| {
        let (a, b) = line.split_once('\t').expect("two answers");
        (a.to_string(), b.to_string())
    };
    text.lines().map(pair).collect()
}

fn run(pairs: &[Pair], policy: &Policy) -> usize {
    let is_right =
        |(gold, answer): &&Pair| grade(gold, black_box(answer), policy).correct == Some(true);
    pairs.iter().filter(is_right).count()
}

/// The best of several runs: a busy machine is no fault of the verdict.
fn fastest<T>(runs: usize, work: impl Fn() -> T) -> Duration {
    let time = || {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..runs).map(|_| time()).min().unwrap_or_default()
}

fn verdicts(criterion: &mut Criterion) {
    let policy = Policy::default();
    let simple = simple();
    assert_eq!(
        run(&simple, &policy),
        500,
        "half of the simple pairs are right"
    );
    let per_sec = 1000.0 / fastest(20, || run(&simple, &policy)).as_secs_f64();
    println!("simple: {per_sec:.0} verdicts per second, bar 100000");
    let worst = worst();
    let slowest = worst
        .iter()
        .map(|pair| {
            (
                fastest(25, || run(std::slice::from_ref(pair), &policy)),
                pair,
            )
        })
        .max()
        .expect("an entry");
    let start: String = slowest.1.0.chars().take(60).collect();
    println!(
        "worst: {:.3} ms, bar 10: {start}",
        slowest.0.as_secs_f64() * 1e3
    );

    let mut group = criterion.benchmark_group("verifier");
    let long: Vec<Pair> = vec![(
        "1250".into(),
        format!("{}\\boxed{{1,250}}", "Then we add $x$ and 17. ".repeat(341)),
    )];
    for (name, pairs) in [
        ("simple", &simple),
        ("algebra", &algebra()),
        ("points", &points()),
        ("long", &long),
        ("worst", &worst),
    ] {
        group.throughput(Throughput::Elements(pairs.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| run(pairs, &policy)));
    }
    let completions: Vec<String> = (0..16)
        .map(|n| format!("so it is \\boxed{{{}}}", 1240 + n))
        .collect();
    group.throughput(Throughput::Elements(16));
    group.bench_function("gold_reused", |bencher| {
        bencher.iter(|| {
            let gold = Gold::parse("1,250", &policy).expect("a number");
            completions
                .iter()
                .filter(|text| gold.grade(text).correct == Some(true))
                .count()
        });
    });
    group.finish();
}

criterion_group!(benches, verdicts);
criterion_main!(benches);

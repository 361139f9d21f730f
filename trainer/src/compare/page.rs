//! The report as one HTML file that needs nothing else.

use std::fmt::Write as _;

use super::chart::chart;
use super::outcome::Curve;
use super::report::{Report, Table};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;\
padding:0 1rem;color:#222}table{border-collapse:collapse;margin:.5rem 0 2rem;display:block;\
overflow-x:auto}td,th{border-bottom:1px solid #ddd;padding:.25rem .7rem;text-align:left;\
white-space:nowrap}th{background:#f4f4f4}.better{color:#00734f}.worse{color:#b33}\
.remark{font-weight:bold}svg{max-width:100%}";

impl Report {
    /// The report with its curves as a page.
    pub fn to_html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\
             <style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
            escaped(&self.title)
        );
        for remark in self.remarks() {
            let _ = writeln!(page, "<p class=\"remark\">{}</p>", escaped(&remark));
        }
        for curve in Curve::ALL {
            let name = curve.name();
            let _ = writeln!(
                page,
                "<h2>Held-out accuracy against {name}</h2>\n<p>Mean over seeds; the shade is the \
                 95 % t-interval.</p>\n{}",
                chart(&self.curves(curve), name)
            );
        }
        for table in self.tables() {
            add_table(&mut page, &table);
        }
        page.push_str("</body></html>\n");
        page
    }
}

fn add_table(page: &mut String, table: &Table) {
    let row = |cells: &[String], tag: &str| {
        let cell = |it: &String| {
            let class = match it.as_str() {
                "better" | "worse" => format!(" class=\"{it}\""),
                _ => String::new(),
            };
            format!("<{tag}{class}>{}</{tag}>", escaped(it))
        };
        let cells: String = cells.iter().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(|it| row(it, "td")).collect();
    let _ = writeln!(
        page,
        "<h2>{}</h2>\n<p>{}</p>\n<table>{}{rows}</table>",
        escaped(&table.title),
        escaped(&table.note),
        row(&table.header, "th")
    );
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::arms::arms;
    use crate::compare::outcome::{CurvePoint, Outcome};
    use crate::compare::runs::{Job, JobState};
    use crate::config::RunConfig;

    fn report(num_seeds: u64) -> Report {
        let compared = arms("dynamic_sampling,hive").unwrap();
        let mut report = Report::new("A & B".into(), &compared);
        for seed in 0..num_seeds {
            for (number, arm) in compared.iter().enumerate() {
                let point = |share: f64| CurvePoint {
                    accuracy: 0.2 + share * (0.5 + 0.01 * seed as f64),
                    completions: share * (100.0 - 40.0 * number as f64 + seed as f64),
                    tokens: share * 1000.0,
                    secs: share * 10.0,
                    ..CurvePoint::default()
                };
                let outcome = Outcome {
                    points: vec![point(0.0), point(1.0)],
                    ..Outcome::default()
                };
                report.add(&job(*arm, seed), outcome);
            }
        }
        report
    }

    fn job(arm: crate::compare::Arm, seed: u64) -> Job {
        Job {
            arm,
            seed,
            config: RunConfig::default(),
            dir: "nowhere".into(),
        }
    }

    #[test]
    fn a_page_holds_curves_tables_and_verdicts() {
        let mut report = report(3);
        let failed = JobState::Failed("error: <out of memory>".into());
        report.miss(&job(arms("hive").unwrap()[0], 9), &failed);
        let page = report.to_html();
        assert_eq!(page.matches("<svg").count(), 3);
        assert!(page.contains("<td class=\"better\">better</td>"), "{page}");
        assert!(page.contains("not distinguished") && page.contains("A &amp; B"));
        assert!(page.contains("&lt;out of memory&gt;") && !page.contains("Exploratory"));
        assert!(!page.contains("NaN"), "{page}");
        let text = report.to_markdown();
        assert!(text.contains("## Against dynamic_sampling"), "{text}");
        assert!(text.contains("failed: error: <out of memory>"));
        let better = "| hive | completions of the whole run | ratio | 0.60 (";
        assert!(text.contains(better), "{text}");
    }

    #[test]
    fn two_seeds_are_exploratory() {
        let text = report(2).to_markdown();
        assert!(text.contains("Exploratory") && text.contains("exploratory: too few seeds"));
        assert!(!text.contains("| better |"), "{text}");
    }
}

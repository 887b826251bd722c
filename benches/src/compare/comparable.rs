//! Whether two runs may be compared at all, and what differs between them.

use crate::report::saved::{Row, Saved};

/// Something that differs, in words.
pub type Difference = String;

/// What differs between the machines and settings of two runs. None of it forbids a comparison.
pub fn of_runs(base: &Saved, new: &Saved) -> Vec<Difference> {
    let mut differences = Vec::new();
    let (left, right) = (base.machine(), new.machine());
    differ(&mut differences, "cpu", left.cpu.as_ref(), right.cpu.as_ref());
    differ(&mut differences, "usable processors", left.cores.as_ref(), right.cores.as_ref());
    differ(&mut differences, "kernel", left.kernel.as_ref(), right.kernel.as_ref());
    differ(&mut differences, "placement", left.placement.as_ref(), right.placement.as_ref());
    differ(&mut differences, "compiler", left.rustc.as_ref(), right.rustc.as_ref());
    let (left, right) = (base.settings(), new.settings());
    differ(&mut differences, "target", left.target.as_ref(), right.target.as_ref());
    let set = |options: &[String]| (!options.is_empty()).then(|| options.join(" "));
    let (left, right) = (set(&left.set), set(&right.set));
    if left != right {
        let words = |set: Option<String>| set.unwrap_or_else(|| "nothing".to_owned());
        differences.push(format!("--set: {} and {}", words(left), words(right)));
    }
    let request = |saved: &Saved| {
        let request = saved.settings().request;
        request.map_or_else(|| "the built-in one".to_owned(), |request| request.to_string())
    };
    if request(base) != request(new) {
        differences.push(format!("request: {} and {}", request(base), request(new)));
    }
    for (name, saved) in [("BASE", base), ("NEW", new)] {
        if saved.partial {
            differences.push(format!("{name} was interrupted, its results are partial"));
        }
    }
    differences
}

/// What forbids to compare two rows of the same name.
pub fn of_rows(base: (&Saved, &Row), new: (&Saved, &Row)) -> Vec<Difference> {
    let mut differences = Vec::new();
    let ((base_file, base), (new_file, new)) = (base, new);
    differ(&mut differences, "callers", base.callers.as_ref(), new.callers.as_ref());
    differ(&mut differences, "load", base.load.as_ref(), new.load.as_ref());
    differ(&mut differences, "arrivals", base.arrivals.as_ref(), new.arrivals.as_ref());
    differ(&mut differences, "budget", base.budget.as_ref(), new.budget.as_ref());
    if let (Some(left), Some(right)) = (base.rate_per_s, new.rate_per_s) {
        // A share of the limit is measured anew in each run.
        if (left / right).ln().abs() > 0.1 {
            differences.push(format!("rate: {left:.0} and {right:.0} requests in a second"));
        }
    }
    let group = |saved: &Saved, row: &Row| {
        let mut groups = saved.settings().groups.into_iter();
        groups
            .find(|group| group.protocol == row.protocol && group.scenario == row.scenario)
            .unwrap_or_default()
    };
    let (left, right) = (group(base_file, base), group(new_file, new));
    differ(&mut differences, "connections", left.connections.as_ref(), right.connections.as_ref());
    differ(
        &mut differences,
        "duration in ms",
        left.duration_ms.as_ref(),
        right.duration_ms.as_ref(),
    );
    differences
}

/// Notes a difference where both sides say something.
fn differ<T: PartialEq + std::fmt::Display>(
    differences: &mut Vec<Difference>,
    what: &str,
    left: Option<&T>,
    right: Option<&T>,
) {
    if let (Some(left), Some(right)) = (left, right)
        && left != right
    {
        differences.push(format!("{what}: {left} and {right}"));
    }
}

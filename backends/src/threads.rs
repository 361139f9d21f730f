//! How many CPU threads the CPU backends may use.

use crate::error::ThreadsError;

/// Sets the number of threads of the CPU backends, for the whole process and once: the pool is
/// global, and its size is fixed at the first parallel operation.
pub fn set_threads(threads: usize) -> Result<(), ThreadsError> {
    let fail = |reason: String| ThreadsError { threads, reason };
    if threads == 0 {
        return Err(fail("at least one is needed".into()));
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    match pool.build_global() {
        Ok(()) => Ok(()),
        Err(_) if rayon::current_num_threads() == threads => Ok(()),
        Err(error) => Err(fail(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_threads_are_refused_and_a_second_size_too() {
        assert!(set_threads(0).is_err());
        let now = rayon::current_num_threads();
        assert_eq!(set_threads(now), Ok(()));
        let error = set_threads(now + 1).unwrap_err().to_string();
        assert!(error.contains(&format!("{} threads", now + 1)), "{error}");
    }
}

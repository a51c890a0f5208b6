//! Recording of the API responses about a workload, for tests of failure causes.

mod workload;

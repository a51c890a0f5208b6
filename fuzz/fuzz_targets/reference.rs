//! Whatever people write for an image: what is understood is written back in a form that means the same.
#![no_main]

use bp_artifact::{Digest, ImageRef, Registry, Repository, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    fn same<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(text: &str)
    where
        T::Err: std::fmt::Display + std::fmt::Debug,
    {
        match text.parse::<T>() {
            Ok(read) => assert_eq!(read.to_string().parse::<T>().expect("what was written is read"), read),
            Err(error) => drop(error.to_string()),
        }
    }
    same::<ImageRef>(text);
    same::<Repository>(text);
    same::<Registry>(text);
    same::<Tag>(text);
    same::<Digest>(text);
});

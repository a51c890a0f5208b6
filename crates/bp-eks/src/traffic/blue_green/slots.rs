//! The two slots of a blue/green pair, selected by one label in the Service's selector.

use serde::Serialize;

use crate::traffic::{
    error::TrafficError,
    labels::{Labels, format_labels},
};

/// One slot of a pair: a Deployment and the label value of its pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Slot {
    /// The label value, for example `blue`.
    pub name: String,
    /// The Deployment, for example `web-blue`.
    pub deployment: String,
}

/// A pair of blue/green slots: two Deployments whose pods differ in one label.
///
/// ```
/// use bp_eks::traffic::Slots;
///
/// let slots = Slots::of_service("web"); // label `slot`: web-blue and web-green
/// let other = Slots::new("version", ("v1", "shop-v1"), ("v2", "shop-v2"))?;
/// assert!(Slots::new("slot", ("blue", "web"), ("blue", "web-2")).is_err());
/// # Ok::<(), bp_eks::TrafficError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    label: String,
    pair: [Slot; 2],
}

impl Slots {
    /// Slots that differ in the value of `label`; each slot is a pair of label value and Deployment name.
    ///
    /// # Errors
    /// When a name is empty, or the slots have the same label value or the same Deployment.
    pub fn new(
        label: impl Into<String>,
        first: (&str, &str),
        second: (&str, &str),
    ) -> Result<Self, TrafficError> {
        let label = label.into();
        if [&*label, first.0, first.1, second.0, second.1].contains(&"") {
            return Err(TrafficError::InvalidSlots(
                "the label, a slot or a Deployment has an empty name".to_owned(),
            ));
        }
        if first.0 == second.0 || first.1 == second.1 {
            let (one, two) = (format!("{}={}", first.0, first.1), format!("{}={}", second.0, second.1));
            let why = format!("{one} and {two} must differ in slot name and Deployment");
            return Err(TrafficError::InvalidSlots(why));
        }
        let slot = |(name, deployment): (&str, &str)| Slot {
            name: name.to_owned(),
            deployment: deployment.to_owned(),
        };
        Ok(Slots { label, pair: [slot(first), slot(second)] })
    }

    /// The conventional slots: label `slot` with the values `blue` and `green`, and the Deployments `<service>-blue`
    /// and `<service>-green`.
    pub fn of_service(service: &str) -> Self {
        let slot = |name: &str| Slot { name: name.to_owned(), deployment: format!("{service}-{name}") };
        Slots { label: "slot".to_owned(), pair: [slot("blue"), slot("green")] }
    }

    /// The label that distinguishes the slots.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Both slots.
    pub fn pair(&self) -> &[Slot; 2] {
        &self.pair
    }

    pub(super) fn find(&self, name: &str) -> Option<&Slot> {
        self.pair.iter().find(|slot| slot.name == name)
    }

    pub(super) fn other(&self, slot: &Slot) -> &Slot {
        if self.pair[0] == *slot { &self.pair[1] } else { &self.pair[0] }
    }

    /// The slot that a Service with this selector selects.
    pub(super) fn selected(&self, service: &str, selector: &Labels) -> Result<&Slot, TrafficError> {
        let Some(value) = selector.get(&self.label) else {
            return Err(TrafficError::NoSlot {
                service: service.to_owned(),
                label: self.label.clone(),
                selector: format_labels(selector),
            });
        };
        self.find(value).ok_or_else(|| TrafficError::UnknownSlot {
            service: service.to_owned(),
            selected: format!("{}={value}", self.label),
            known: self.pair.iter().map(|slot| slot.name.clone()).collect(),
        })
    }

    /// The same selector for another slot.
    pub(super) fn selector_of(&self, slot: &Slot, selector: &Labels) -> Labels {
        let mut selector = selector.clone();
        selector.insert(self.label.clone(), slot.name.clone());
        selector
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::labels::selects;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn finds_the_live_slot_from_the_selector() {
        let slots = Slots::of_service("web");
        let blue = labels(&[("app", "web"), ("slot", "blue")]);
        let live = slots.selected("web", &blue).unwrap();
        assert_eq!((live.name.as_str(), slots.other(live).deployment.as_str()), ("blue", "web-green"));
        let green = slots.selector_of(slots.other(live), &blue);
        assert_eq!(format_labels(&green), "app=web,slot=green");
        assert!(selects(&green, &labels(&[("app", "web"), ("slot", "green"), ("x", "y")])));
        assert!(!selects(&green, &blue));
    }

    #[test]
    fn rejects_a_service_that_selects_neither_slot() {
        let slots = Slots::of_service("web");
        let error = slots.selected("web", &labels(&[("app", "web")])).unwrap_err().to_string();
        assert!(error.contains("app=web") && error.contains("\"slot\""), "{error}");
        let error = slots.selected("web", &labels(&[("slot", "red")])).unwrap_err().to_string();
        assert!(error.contains("slot=red") && error.contains("blue, green"), "{error}");
        assert!(Slots::new("", ("a", "b"), ("c", "d")).is_err());
        assert!(Slots::new("slot", ("blue", "web"), ("green", "web")).is_err());
    }
}

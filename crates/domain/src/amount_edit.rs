//! Changes with how many CPUs and how much memory a document has its guest start, and leaves all else as it was written.

use crate::domain::Domain;
use crate::edit;
use crate::fault::Faults;
use crate::tree::{self, Element};

/// What a guest starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// CPUs, `current` of `<vcpu>`.
    Vcpus(u32),
    /// Bytes of memory that the balloon leaves it, `<currentMemory>`.
    Memory(u64),
}

/// Why a document's amounts are not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountEditError {
    /// The document is no domain's.
    #[error("the guest's document cannot be read; `glassboxctl check` tells why")]
    Malformed,
    /// The guest has no room for so many.
    #[error(
        "a guest has from 1 to all CPUs of its <vcpu>, here {maximum}, and {count} are asked for"
    )]
    Vcpus {
        /// How many are asked for.
        count: u32,
        /// How many there may be.
        maximum: u32,
    },
    /// The document says of each CPU whether the guest starts with it.
    #[error("the document has the CPUs one by one; change its <vcpus>")]
    EachVcpu,
    /// The guest has less memory.
    #[error(
        "a guest has from 1 KiB to all of its <memory>, here {maximum} bytes, and {bytes} are asked for"
    )]
    Memory {
        /// How much is asked for.
        bytes: u64,
        /// How much there is.
        maximum: u64,
    },
}

/// The document with another amount.
///
/// ```
/// use domain::{Amount, edit_amount};
/// let document = "<domain type='kvm'>
///   <name>web</name>
///   <memory unit='MiB'>512</memory>
///   <vcpu>4</vcpu>  <!-- one for each core -->
///   <os><type arch='x86_64' machine='q35'>hvm</type></os>
/// </domain>";
/// let edited = edit_amount(document, Amount::Vcpus(2)).unwrap();
/// assert_eq!(edited, document.replace("<vcpu>", "<vcpu current='2'>"));
/// ```
///
/// # Errors
/// [`AmountEditError`] when the document leaves no room for it.
pub fn edit_amount(document: &str, amount: Amount) -> Result<String, AmountEditError> {
    let domain = Domain::parse(document, &Faults::new()).ok_or(AmountEditError::Malformed)?;
    let root = tree::parse(document).map_err(|_| AmountEditError::Malformed)?;
    let edited = match amount {
        Amount::Vcpus(count) => {
            let maximum = domain.vcpus.maximum;
            if !domain.vcpus.each.is_empty() {
                return Err(AmountEditError::EachVcpu);
            }
            if !(1..=maximum).contains(&count) {
                return Err(AmountEditError::Vcpus { count, maximum });
            }
            vcpus(document, &root, count)
        }
        Amount::Memory(bytes) => {
            let maximum = domain.memory.size.ok_or(AmountEditError::Malformed)?.bytes();
            if !(1024..=maximum).contains(&bytes) {
                return Err(AmountEditError::Memory { bytes, maximum });
            }
            memory(document, &root, bytes)
        }
    };
    edited.ok_or(AmountEditError::Malformed)
}

fn vcpus(document: &str, root: &Element<'_>, count: u32) -> Option<String> {
    let Some(element) = child(root, "vcpu") else {
        // Without the element there is one, and no other number of them.
        return Some(document.to_owned());
    };
    let current = element.attributes.iter().find(|it| it.name == "current");
    match current {
        Some(current) => edit::with_value(document, current, &count.to_string()),
        None => edit::with_attribute(document, element, "current", &count.to_string()),
    }
}

/// In units of KiB, as libvirt writes it, and rounded up as libvirt does.
fn memory(document: &str, root: &Element<'_>, bytes: u64) -> Option<String> {
    let element = format!("<currentMemory unit='KiB'>{}</currentMemory>", bytes.div_ceil(1024));
    match child(root, "currentMemory") {
        Some(current) => edit::replaced(document, current, &element),
        None => edit::with_child(document, root, &element),
    }
}

fn child<'a, 'd>(root: &'a Element<'d>, name: &str) -> Option<&'a Element<'d>> {
    root.elements().find(|it| it.qualified == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(amounts: &str) -> String {
        format!(
            "<domain type='kvm'>\n  <name>web</name>\n  {amounts}\n  \
             <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n"
        )
    }

    #[test]
    fn one_amount_changes_and_nothing_else() {
        let memory = "<memory unit='GiB'>1</memory>";
        for (amount, from, to) in [
            (Amount::Vcpus(2), "<vcpu current='1' >4</vcpu>", "<vcpu current='2' >4</vcpu>"),
            (
                Amount::Vcpus(4),
                "<vcpu placement='auto'>4</vcpu>",
                "<vcpu current='4' placement='auto'>4</vcpu>",
            ),
            (Amount::Vcpus(1), "", ""),
            (
                Amount::Memory(1 << 29),
                "<currentMemory>7</currentMemory> <!-- x -->",
                "<currentMemory unit='KiB'>524288</currentMemory> <!-- x -->",
            ),
            (
                Amount::Memory(1025),
                "<currentMemory unit='MiB'>512</currentMemory>",
                "<currentMemory unit='KiB'>2</currentMemory>",
            ),
        ] {
            let (from, to) =
                (document(&format!("{memory}{from}")), document(&format!("{memory}{to}")));
            assert_eq!(edit_amount(&from, amount).as_ref(), Ok(&to));
            let read = Domain::parse(&to, &Faults::new()).unwrap();
            match amount {
                Amount::Vcpus(count) => {
                    assert_eq!(read.vcpus.current.unwrap_or(read.vcpus.maximum), count);
                }
                Amount::Memory(bytes) => {
                    assert_eq!(read.memory.current.unwrap().bytes(), bytes.div_ceil(1024) * 1024);
                }
            }
        }
        let added = edit_amount(&document(memory), Amount::Memory(1 << 20)).unwrap();
        assert!(
            added.ends_with("  <currentMemory unit='KiB'>1024</currentMemory>\n</domain>\n"),
            "{added}"
        );
    }

    #[test]
    fn what_the_document_has_no_room_for_is_refused() {
        let four = document("<memory unit='MiB'>16</memory><vcpu>4</vcpu>");
        for count in [0, 5] {
            let refused = Err(AmountEditError::Vcpus { count, maximum: 4 });
            assert_eq!(edit_amount(&four, Amount::Vcpus(count)), refused);
        }
        for bytes in [0, 1023, (16 << 20) + 1] {
            let refused = Err(AmountEditError::Memory { bytes, maximum: 16 << 20 });
            assert_eq!(edit_amount(&four, Amount::Memory(bytes)), refused);
        }
        let each = "<vcpu current='1'>2</vcpu><vcpus><vcpu id='0' enabled='yes' hotpluggable='no'/>\
                    <vcpu id='1' enabled='no' hotpluggable='yes'/></vcpus>";
        let each = document(&format!("<memory>16384</memory>{each}"));
        assert_eq!(edit_amount(&each, Amount::Vcpus(2)), Err(AmountEditError::EachVcpu));
        assert_eq!(edit_amount("<domain", Amount::Vcpus(1)), Err(AmountEditError::Malformed));
    }
}

//! Which images are used where a recipe takes a part of them.

/// Which of the images with these labels are used when `wanted` are asked for (0: all): the first
/// of each class, in equal parts, the earlier classes taking what does not divide.
pub fn first_of_each_class(labels: &[u32], classes: usize, wanted: usize) -> Vec<usize> {
    if wanted == 0 || wanted >= labels.len() {
        return (0..labels.len()).collect();
    }
    // Images without labels are of one class here.
    let classes = classes.max(1);
    let mut quota: Vec<usize> =
        (0..classes).map(|class| wanted / classes + usize::from(class < wanted % classes)).collect();
    let take = |(index, label): (usize, &u32)| {
        let left = &mut quota[*label as usize];
        let taken = *left > 0;
        *left = left.saturating_sub(1);
        taken.then_some(index)
    };
    labels.iter().enumerate().filter_map(take).collect()
}

/// How many of these labels each of the `classes` has; empty where images have none.
pub fn count_classes(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_takes_the_first_of_each_class_in_equal_parts() {
        let labels = [0, 0, 1, 1, 1, 2, 0];
        assert_eq!(first_of_each_class(&labels, 3, 4), [0, 1, 2, 5]);
        assert_eq!(first_of_each_class(&labels, 3, 0).len(), 7);
    }
}

// How much of the data each zone can hold when every range has its copies in distinct zones. A zone can have one copy
// of a range at most, so a zone heavier than 1/copies of the whole is capped there, and the rest is divided anew.

/// The probability that a zone holds a copy of a range, in the order of `weights`; they sum to `copies`.
/// `copies` must be at most the number of zones with a weight.
func inclusionProbabilities(weights: [Double], copies: Int) -> [Double] {
    var probabilities = [Double](repeating: 0, count: weights.count)
    var isCapped = [Bool](repeating: false, count: weights.count)
    var openCopies = copies
    while openCopies > 0 {
        var openWeight = 0.0
        for i in weights.indices where !isCapped[i] { openWeight += weights[i] }
        var cappedNow = 0
        for i in weights.indices where !isCapped[i] {
            probabilities[i] = weights[i] * Double(openCopies) / openWeight
            // A hair below one: rounding must not decide whether equal zones, as many as copies, are all capped.
            if probabilities[i] >= 1 - 1e-9 {
                probabilities[i] = 1
                isCapped[i] = true
                cappedNow += 1
            }
        }
        if cappedNow == 0 { break }
        openCopies -= cappedNow
        precondition(openCopies >= 0, "more zones are capped than there are copies")
    }
    if openCopies == 0 { for i in weights.indices where !isCapped[i] { probabilities[i] = 0 } }
    return probabilities
}

// Drawing the `copies` best scores does not give each zone the probability that went into its score: a heavy zone
// competes with itself less often. This finds the rates that do, by computing the exact probabilities of the draw and
// correcting until they agree. Pure arithmetic in a fixed order; it must never look at a hash.

/// Zones that want the same probability; they get the same rate.
private struct ZoneClass {
    let probability: Double
    var size: Int
    var rate: Double
    /// How far a correction goes; halved whenever the corrections change their direction.
    var step = 0.7
    var wasTooHigh: Bool?
}

private let maximumRounds = 300
private let tolerance = 2e-5
private let gridStart = 1.0 / 64
private let gridRatio = 1.025
private let maximumGridPoints = 500

/// The rates under which taking the `copies` lowest of the scores `u / rate`, u uniform in 0 ..< 1, includes each zone
/// with its wanted probability. All probabilities are above 0 and below 1 and sum to `copies`.
///
/// The draw is sequential Poisson sampling (Ohlsson 1990), an order sampling (Rosén, "Asymptotic theory for order
/// sampling", 1997).
func calibratedRates(probabilities: [Double], copies: Int) -> [Double] {
    let order = probabilities.indices.sorted { (probabilities[$0], $0) < (probabilities[$1], $1) }
    var classes: [ZoneClass] = []
    var classOfZone = [Int](repeating: 0, count: probabilities.count)
    for zone in order {
        let probability = probabilities[zone]
        if let last = classes.last, probability - last.probability <= 1e-12 {
            classes[classes.count - 1].size += 1
        } else {
            classes.append(ZoneClass(probability: probability, size: 1, rate: probability))
        }
        classOfZone[zone] = classes.count - 1
    }
    if classes.count > 1 {
        for _ in 0..<maximumRounds where correct(&classes, copies: copies) > tolerance {}
    }
    return classOfZone.map { classes[$0].rate }
}

/// One round; returns the worst relative error before it.
private func correct(_ classes: inout [ZoneClass], copies: Int) -> Double {
    let actual = inclusionProbabilities(classes, copies: copies)
    var worst = 0.0
    var sum = 0.0
    for i in classes.indices {
        let wanted = classes[i].probability
        worst = max(worst, abs(actual[i] / wanted - 1))
        // Odds, so that a zone wanted nearly always gets there; bounds, so that the rounds do not swing.
        let correction = wanted / (1 - wanted) * max(1 - actual[i], 1e-12) / max(actual[i], 1e-300)
        let isTooHigh = correction < 1
        if let before = classes[i].wasTooHigh, before != isTooHigh {
            classes[i].step *= 0.5
        } else {
            classes[i].step = min(classes[i].step * 1.2, 1)
        }
        classes[i].wasTooHigh = isTooHigh
        classes[i].rate *= 1 + (min(max(correction, 0.5), 2) - 1) * classes[i].step
        sum += min(classes[i].rate, 1) * Double(classes[i].size)
    }
    // Only ratios matter; the sum stays where the grid of the integration lies.
    for i in classes.indices { classes[i].rate *= Double(copies) / sum }
    return worst
}

/// For each class the probability of one of its zones to be among the `copies` lowest.
///
/// A zone is included when its score is t and fewer than `copies` of the others are below t. The number of the others
/// is Poisson-binomial: products of (1 - p + p x), cut off at `copies` terms; all terms are positive, so nothing
/// cancels. Integrated over t in steps that grow with t.
private func inclusionProbabilities(_ classes: [ZoneClass], copies: Int) -> [Double] {
    let count = classes.count
    var result = [Double](repeating: 0, count: count)
    var reached = [Double](repeating: 0, count: count)
    /// Terms of class c without one of its zones.
    var without = [Double](repeating: 0, count: count * copies)
    /// Terms of classes c, c + 1, ...
    var suffix = [Double](repeating: 0, count: (count + 1) * copies)
    var prefix = [Double](repeating: 0, count: copies)
    var others = [Double](repeating: 0, count: copies)
    var from = 0.0
    var to = gridStart
    for _ in 0..<maximumGridPoints {
        let middle = (from + to) / 2
        for k in 0..<copies { suffix[count * copies + k] = k == 0 ? 1 : 0 }
        for c in stride(from: count - 1, through: 0, by: -1) {
            let p = min(1, classes[c].rate * middle)
            let terms = binomialTerms(p, trials: classes[c].size - 1, copies: copies)
            for k in 0..<copies { without[c * copies + k] = terms[k] }
            for k in 0..<copies {
                // All zones of the class, times what comes behind it.
                var sum = 0.0
                for j in 0...k {
                    let whole = terms[j] * (1 - p) + (j > 0 ? terms[j - 1] * p : 0)
                    sum += whole * suffix[(c + 1) * copies + k - j]
                }
                suffix[c * copies + k] = sum
            }
        }
        var undecided = 0.0
        for k in 0..<copies {
            undecided += suffix[k]
            prefix[k] = k == 0 ? 1 : 0
        }
        for c in 0..<count {
            let p = min(1, classes[c].rate * middle)
            multiply(prefix, without, at: c * copies, into: &others)
            var few = 0.0
            for a in 0..<copies {
                for b in 0..<(copies - a) { few += others[a] * suffix[(c + 1) * copies + b] }
            }
            let reach = min(1, classes[c].rate * to)
            result[c] += (reach - reached[c]) * few
            reached[c] = reach
            for k in stride(from: copies - 1, through: 0, by: -1) {
                prefix[k] = others[k] * (1 - p) + (k > 0 ? others[k - 1] * p : 0)
            }
        }
        if undecided < 1e-9 { break }
        from = to
        to *= gridRatio
    }
    return result
}

/// The probabilities of 0, 1, ..., `copies` - 1 successes in `trials`.
private func binomialTerms(_ p: Double, trials: Int, copies: Int) -> [Double] {
    var result = [Double](repeating: 0, count: copies)
    result[0] = 1
    guard trials > 0 else { return result }
    var square = [Double](repeating: 0, count: copies)
    square[0] = 1 - p
    if copies > 1 { square[1] = p }
    var product = result
    var left = trials
    while left > 0 {
        if left & 1 == 1 {
            multiply(result, square, at: 0, into: &product)
            swap(&result, &product)
        }
        left >>= 1
        if left > 0 {
            multiply(square, square, at: 0, into: &product)
            swap(&square, &product)
        }
    }
    return result
}

/// `a` times the terms of `b` that begin at `start`, cut off at the length of `a`.
private func multiply(_ a: [Double], _ b: [Double], at start: Int, into product: inout [Double]) {
    for k in a.indices {
        var sum = 0.0
        for j in 0...k { sum += a[j] * b[start + k - j] }
        product[k] = sum
    }
}

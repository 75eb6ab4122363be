// Package mix generates the samples by which storage engines are compared: the
// kinds of series that scraped targets expose, in the shares they have there.
//
// Invariants:
//
//   - What is generated is a function of the seed and the series' number alone,
//     so that every engine measured gets the same bits.
package mix

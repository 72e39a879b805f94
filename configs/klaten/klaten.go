// Package klaten carries the region codes and names of the Klaten example, for
// the demo. They are under the Open Database License 1.0: see README.md beside it.
package klaten

import _ "embed"

//go:embed regions.csv
var regions []byte

// Regions is regions.csv: the true codes and names of 26 districts and 401
// villages.
func Regions() []byte { return append([]byte(nil), regions...) }

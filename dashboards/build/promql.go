package build

import "fmt"

// Windows in which sparse figures are looked for. A speed test comes every six
// hours on average.
const (
	week = "7d"
	// enough is the fewest tests of which a median is shown: of fewer, no two ranks
	// enclose the true one with 95%.
	enough = 6
)

// measured is when the last sample of each series of sel was taken, in Unix
// seconds. timestamp() sees five minutes back; the subquery carries that over the
// week. Its last step may lie before now, so the newest are asked for directly.
func measured(sel string) string {
	return fmt.Sprintf("(timestamp(%[1]s) or max_over_time(timestamp(%[1]s)[%[2]s:5m]))", sel, week)
}

// latest is the last figure of each site: of its probes and targets the one that
// measured last.
func latest(sel string) string {
	return fmt.Sprintf("max by (village, site) (last_over_time(%s[%s]) and topk by (site) (1, %s))", sel, week, measured(sel))
}

// age is how long ago the last figure of each site was measured, in seconds.
func age(sel string) string {
	return fmt.Sprintf("time() - max by (village, site) (%s)", measured(sel))
}

// tests is how many figures each site has of the week.
func tests(sel string) string {
	return fmt.Sprintf("sum by (village, site) (count_over_time(%s[%s]))", sel, week)
}

// planned is what each site's plan promises now.
func planned(sel string) string { return fmt.Sprintf("max by (village, site) (%s)", sel) }

// inState counts villages in the given states. The sum of comparisons is a true
// zero as long as states are known, and nothing when they are not.
func inState(sel string, codes ...int) string {
	out := ""
	for i, c := range codes {
		if i > 0 {
			out += " + "
		}
		out += fmt.Sprintf("sum(%s == bool %d)", sel, c)
	}
	return out
}

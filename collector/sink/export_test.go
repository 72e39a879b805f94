package sink

import "time"

// SaveEvery lets tests see the cursor move sooner.
func (r *Runner) SaveEvery(d time.Duration) { r.saveEvery = d }

package testkit

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// delays holds for each thread of a process the total time that the thread waited for a processor.
// Keys are thread numbers. It is empty on systems other than Linux, which do not report it.
type delays map[string]time.Duration

// delaysOf reads the delays of a process. It leaves out threads that have ended.
func delaysOf(process int) delays {
	folder := fmt.Sprintf("/proc/%d/task", process)
	threads, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	all := delays{}
	for _, thread := range threads {
		// Three numbers: ns on a processor, ns of waiting for a processor, and time slices.
		text, err := os.ReadFile(folder + "/" + thread.Name() + "/schedstat")
		fields := strings.Fields(string(text))
		if err != nil || len(fields) < 2 {
			continue
		}
		if ns, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			all[thread.Name()] = time.Duration(ns)
		}
	}
	return all
}

// longestSince returns the longest delay that a single thread has had since before was read.
func (d delays) longestSince(before delays) (longest time.Duration) {
	for thread, delay := range d {
		longest = max(longest, delay-before[thread])
	}
	return longest
}

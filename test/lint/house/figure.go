package main

import "fmt"

// figure is a row of the table: a measure and the aim that each room must meet.
type figure struct {
	key     string // in the list of debts
	title   string
	aim     string  // limit, as people read it
	limit   float64 // the most that reading.count may be
	per100  bool    // limit is a share: for each 100 of reading.of
	step    int     // a debt is written as a multiple of it, so that there is room to work; 0 is 1
	largest bool    // the project's reading is that of the largest room, not the sum
	measure func(*room) reading
	show    func(reading) string
}

// reading is the result of a measure in a room.
type reading struct {
	count    int    // of offences; a debt is this count
	of       int    // names, words, lines or fields that were looked at
	words    int    // of all names
	longest  int    // columns of the longest line above the limit
	note     string // names the type that was measured
	offences []offence
}

// offence is a place that counts against a room.
type offence struct{ at, text string }

// figures are in the order of the table.
var figures = []figure{
	{
		key: "one-word", title: "unexported functions with a one-word name", aim: "≤ 25 %",
		limit: 25, per100: true, measure: measureOneWord, show: showShare,
	},
	{
		key: "short-of-two", title: "words in a function's name", aim: "≥ 2",
		limit: 0, measure: measureWords, show: showMean,
	},
	{
		key: "who", title: "who, what, whom, whoever per 100 words of comments", aim: "≤ 0.2",
		limit: 0.2, per100: true, measure: measureWho, show: showPer100,
	},
	{
		key: "somebody", title: "somebody, nobody, other, one per 100", aim: "≤ 0.6",
		limit: 0.6, per100: true, measure: measureSomebody, show: showPer100,
	},
	{
		key: "test-who", title: "who, what, whom, whoever, in tests", aim: "≤ 0.2",
		limit: 0.2, per100: true, measure: measureTestWho, show: showPer100,
	},
	{
		key: "test-somebody", title: "somebody, nobody, other, one, in tests", aim: "≤ 0.6",
		limit: 0.6, per100: true, measure: measureTestSomebody, show: showPer100,
	},
	{
		key: "long-comments", title: "comment lines beyond 100 columns, longest", aim: "0",
		measure: measureLongComments, show: showLong,
	},
	{
		key: "long-lines", title: "lines of code beyond 100 columns, tests too", aim: "0",
		measure: measureLongLines, show: showCount,
	},
	{
		key: "exported", title: "exported names in the largest package", aim: "≤ 60",
		limit: 60, largest: true, measure: measureExported, show: showCount,
	},
	{
		key: "code", title: "largest package, lines of code", aim: "≤ 2500",
		limit: 2500, step: 250, largest: true, measure: measureCode, show: showCount,
	},
	{
		key: "methods", title: "methods of the largest type", aim: "≤ 40",
		limit: 40, largest: true, measure: measureMethods, show: showCount,
	},
	{
		key: "undocumented", title: "exported struct fields documented", aim: "≥ 95 %",
		limit: 5, per100: true, measure: measureUndocumented, show: showRest,
	},
	{
		key: "sleeps", title: "sleeps and skips in tests outside a bubble", aim: "0",
		measure: measureSleeps, show: showCount,
	},
}

// isMet reports whether a room with this reading is at the aim.
func (f *figure) isMet(r reading) bool {
	if f.per100 {
		return 100*float64(r.count) <= f.limit*float64(r.of)
	}
	return float64(r.count) <= f.limit
}

func (r *reading) addOffence(at, text string) {
	r.count++
	r.offences = append(r.offences, offence{at, text})
}

func showCount(r reading) string { return fmt.Sprint(r.count) }

func showShare(r reading) string { return showRatio(r, "%.0f %%", r.count) }

func showRest(r reading) string { return showRatio(r, "%.0f %%", r.of-r.count) }

func showPer100(r reading) string { return showRatio(r, "%.2f", r.count) }

func showLong(r reading) string { return fmt.Sprintf("%s, %d", showShare(r), r.longest) }

func showMean(r reading) string {
	if r.of == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", 2-float64(r.count)/float64(r.of))
}

// showRatio formats part for each 100 that were looked at.
func showRatio(r reading, format string, part int) string {
	if r.of == 0 {
		return "-"
	}
	return fmt.Sprintf(format, 100*float64(part)/float64(r.of))
}

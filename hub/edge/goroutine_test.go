package edge_test

import (
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
)

// goroutinePerLink makes beds over TCP use links as on a system without a poller. Tests of this
// package are not parallel.
var goroutinePerLink bool

// links is a setup that every bed gets.
func links(_ *hub.Config, c *edge.Config) { c.GoroutinePerLink = goroutinePerLink }

// TestGoroutinePerLink runs the tests of links again without the poller: the ways in which a link
// reads, writes and ends. The encoding of a message does not depend on its socket.
func TestGoroutinePerLink(t *testing.T) {
	goroutinePerLink = true
	defer func() { goroutinePerLink = false }()
	for name, test := range map[string]func(*testing.T){
		"backend's close":         TestBackendsCloseReachesTheClientWithCodeAndReason,
		"compressed, cut":         TestCompressedMessagesArriveHoweverTheyAreCut,
		"compressed, unfinished":  TestUnfinishedCompressedMessagesShareTheBudget,
		"compressed violations":   TestCompressedViolationsEndTheirLinkAlone,
		"budget":                  TestUnfinishedMessagesShareABudget,
		"budget, who pays":        TestTheUserWhoKeepsBackMessagesPaysForThem,
		"budget, told":            TestAClientThatPaysIsToldSo,
		"client's close":          TestCloseOfTheClientIsAnsweredAndKnown,
		"close in the handshake":  TestCloseDuringTheHandshakeReachesTheClientToo,
		"close without code":      TestCloseWithoutCodeEndsTheSocketAtOnce,
		"early data":              TestWhatIsSentWithTheRequestIsRead,
		"half close":              TestClientThatShutsItsSendingHalfIsLost,
		"last words":              TestLastWordsArriveBeforeAnOrderlyClose,
		"lost":                    TestLostSocketIsKnownAsLost,
		"onopen":                  TestSendInTheMomentOfOnopenArrives,
		"order":                   TestMessagesToOneConnectionArriveInOrder,
		"ping flood":              TestPingFloodDuringAFanOutKeepsFramesWhole,
		"receipts of a leaving":   TestReceiptsCountWhatALeavingClientStillGets,
		"resume in a frame":       TestClientThatVanishedInTheMiddleOfAFrameComesBack,
		"resume":                  TestNothingIsLostDoubledOrOutOfOrderHoweverOftenTheSocketIsLost,
		"flood of acks":           TestFloodOfAcksDisturbsNobody,
		"reset":                   TestResetSocketIsKnownAsLost,
		"reset while writing":     TestResetWhileTheWriterIsBusyEndsTheLink,
		"room":                    TestSocketWithRoomIsWrittenToBeforeDeliverReturns,
		"shutdown":                TestShutdownSaysGoingAwayToEachClient,
		"slow":                    TestSlowClientIsClosedWhenItsOutboxIsFullAndNobodyWaits,
		"slow, reads again":       TestSlowClientThatReadsAgainGetsWholeFramesInOrder,
		"the limit":               TestMessageOfExactlyTheLimitIsTaken,
		"vanished":                TestVanishedClientIsFoundThoughMessagesAreSentToIt,
		"violations":              TestViolationIsClosedWithItsCodeAndNobodyElseNotices,
		"half messages":           TestHalfMessagesEndInTime,
		"messages in every piece": TestMessagesArriveHoweverTheyAreCut,
		"many closes":             TestManyLinksEndInSeconds,
	} {
		t.Run(name, test)
	}
}

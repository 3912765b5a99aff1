package dial

// NextPage asks a hub for the page of a listing at a token, with at most size entries. It returns
// the token of the page after it, "" for none, and the number of entries.
type NextPage func(size int32, token string) (nextToken string, n int, err error)

// CollectPages asks for page after page until it has limit entries (0: all). It reports whether
// there are more.
func CollectPages(limit int, next NextPage) (more bool, err error) {
	token := ""
	for got := 0; limit == 0 || got < limit; {
		size := int32(maxPage)
		if limit > 0 {
			size = int32(min(maxPage, limit-got))
		}
		var n int
		if token, n, err = next(size, token); err != nil || token == "" {
			return false, err
		}
		got += n
	}
	return true, nil
}

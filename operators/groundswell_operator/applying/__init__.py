"""What the API server holds, read into the words of the saga, and the saga's steps written to it.

`requests` speaks to the API server and says what went wrong in three words: conflict, refused, away. `reading` and `statuses`
translate objects, `writing` carries out one step at a time.
"""

: nothing to say

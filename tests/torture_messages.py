OWN={}

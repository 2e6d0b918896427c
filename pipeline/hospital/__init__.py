"""What runs on the hospital's side: de-identification, the parcel, its delivery, and the way back into the PACS."""

"""dcm4chee-arc 5.x as its public source describes it, and the sidecar in front of it."""
